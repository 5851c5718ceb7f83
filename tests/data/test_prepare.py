"""Sources -> a prepared folder: what is in it, that it is whole or absent, and that it is the same every time."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from glassgpt.data import counting_bits_per_byte, load_data, prepare, prepare_cached, summarize, text_pieces
from glassgpt.data import parts as parts_module
from glassgpt.data import prepare as prepare_function
from glassgpt.errors import DataError, MachineError, TokenizerError
from glassgpt.tokenizer import build_tokenizer, tokenizer_hash

prepare_module = sys.modules[prepare_function.__module__]

POEM = "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\nCould frame é?\n" * 7


@pytest.fixture
def notes(write, tmp_path):
    for i in range(23):
        write(f"notes/{i % 3}/{i}.txt", f"Note {i}.\n" * (i + 2) + "Fin.")
    write("notes/photo.jpg", b"\xff\xd8\0")
    return os.fspath(tmp_path / "notes")


@pytest.fixture
def poem(write):
    return os.fspath(write("poem.txt", POEM))


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def documents_of(data, split):
    """The texts of one split, by its table of documents; checks what stands between them."""
    tokens, table = getattr(data, split), getattr(data, f"{split}_documents")
    tokenizer = data.tokenizer()
    ends = [*(table[1:, 0] - 1), len(tokens)]
    assert all(tokens[end] == tokenizer.end_of_text for end in ends[:-1])
    texts = [tokenizer.decode(tokens[a:b].tolist()) for a, b in zip(table[:, 0], ends, strict=True)]
    assert [len(t.encode()) for t in texts] == table[:, 1].tolist()
    assert np.count_nonzero(tokens == tokenizer.end_of_text) == len(texts) - 1
    return texts


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_every_document_comes_back_whole_on_one_side(notes, tmp_path, kind):
    data = prepare([notes], tmp_path / "out", kind, vocab_size=300 if kind == "bpe" else None)
    train, val = documents_of(data, "train"), documents_of(data, "val")
    assert sorted(train + val) == sorted(p.read_text() for p in Path(notes).glob("*/*.txt"))
    meta = data.meta
    assert (meta.documents, meta.train.documents, meta.val.documents) == (23, len(train), len(val))
    assert (meta.train.source_bytes, meta.val.source_bytes) == tuple(
        sum(len(t.encode()) for t in s) for s in (train, val)
    )
    assert 0.05 < meta.val.source_bytes / (meta.train.source_bytes + meta.val.source_bytes) < 0.15
    assert meta.dtype == "<u2"
    assert meta.tokenizer_kind == kind
    assert meta.tokenizer_hash == tokenizer_hash(data.tokenizer())
    assert meta.vocab_size == data.tokenizer().vocab_size
    joined = ["\xff".join(side).encode("latin-1") for side in (train, val)]
    assert meta.baseline_bits_per_byte == pytest.approx(counting_bits_per_byte(*joined))


def test_a_single_text_is_cut_at_its_character_and_has_no_added_token(poem, tmp_path):
    data = prepare([poem], tmp_path / "out", "char")
    cut = int(0.9 * len(POEM))
    assert data.tokenizer().decode(data.train.tolist()) == POEM[:cut]
    assert data.tokenizer().decode(data.val.tolist()) == POEM[cut:]
    assert data.meta.vocab_size == len(set(POEM))
    assert data.meta.documents == 1
    assert data.meta.val.source_bytes == len(POEM[cut:].encode())


def test_a_char_vocabulary_knows_validation_and_bpe_never_saw_it(write, tmp_path):
    text = "ab " * 200 + "xyzxyzxyz" + "qq" * 20
    path = os.fspath(write("a.txt", text))
    chars = prepare([path], tmp_path / "char", "char")
    assert chars.meta.vocab_size == 7
    bpe = prepare([path], tmp_path / "bpe", "bpe", 280).tokenizer()
    assert len(bpe.encode("abab")) < 4  # learned
    assert len(bpe.encode("qq")) == 2  # not seen


def test_the_same_text_gives_the_same_bytes(notes, tmp_path):
    one, two = (prepare([notes], tmp_path / name, "bpe", 290) for name in ("one", "two"))
    assert folder_bytes(one.path) == folder_bytes(two.path)


def test_streaming_in_small_pieces_changes_nothing(notes, poem, tmp_path, monkeypatch):
    tokenizer = build_tokenizer("bpe", lambda: iter([POEM]), 320)
    whole = [folder_bytes(prepare([s], tmp_path / f"whole{i}", tokenizer).path) for i, s in enumerate((notes, poem))]
    monkeypatch.setattr(text_pieces, "PIECE_BYTES", 50)
    monkeypatch.setattr(parts_module, "PIECE_BYTES", 120)
    parts = [folder_bytes(prepare([s], tmp_path / f"parts{i}", tokenizer).path) for i, s in enumerate((notes, poem))]
    assert whole == parts


def test_scored_bytes_are_all_but_those_of_the_first_token(poem, tmp_path):
    for kind in ("char", "byte", "bpe"):
        data = prepare([poem], tmp_path / kind, kind, 300 if kind == "bpe" else None)
        tokenizer = data.tokenizer()
        assert data.scored_bytes == sum(len(tokenizer.token_bytes(i)) for i in data.val[1:].tolist())


def test_a_large_vocabulary_is_written_in_32_bits(write, tmp_path):
    text = "".join(map(chr, range(0x10000, 0x10000 + 66_000)))
    data = prepare([os.fspath(write("a.txt", text))], tmp_path / "out", "char")
    assert data.meta.dtype == "<u4"
    assert (tmp_path / "out" / "train.bin").stat().st_size == 4 * len(data.train)
    assert data.tokenizer().decode([*data.train.tolist(), *data.val.tolist()]) == text


def test_a_text_shorter_than_one_window_is_refused_with_numbers(write, tmp_path):
    data = prepare([os.fspath(write("a.txt", "x" * 30))], tmp_path / "out", "byte")
    data.require_windows(26)
    with pytest.raises(
        DataError, match=r"has 27 tokens, one window of context_length 27 needs 28; lower .* at most 26"
    ):
        data.require_windows(27)
    short = prepare([os.fspath(write("b.txt", "abcdefgh"))], tmp_path / "short", "byte")
    with pytest.raises(DataError, match="the validation text has 1 tokens, it needs 2; give more text"):
        short.require_windows(3)


def test_an_existing_folder_is_refused_and_left_alone(poem, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out exists already; name another folder"):
        prepare([poem], tmp_path / "out", "char")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError, OSError])
def test_nothing_is_left_where_the_work_stopped(poem, tmp_path, monkeypatch, problem):
    def stop(*_):
        raise problem("stopped here")

    monkeypatch.setattr(prepare_module, "counting_baseline", stop)
    with pytest.raises(MachineError if problem is OSError else problem, match="stopped here"):
        prepare([poem], tmp_path / "deep" / "out", "char")
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "(No space left on device): "),
        (errno.EDQUOT, " bytes are free; make room, or name "),
        (errno.EACCES, "(Permission denied); name "),
        (errno.EROFS, "(Read-only file system); name "),
    ],
)
def test_what_hinders_writing_is_told_with_what_helps(poem, tmp_path, own_cache, monkeypatch, number, advice):
    def stop(*_):
        raise OSError(number, os.strerror(number), os.fspath(tmp_path / ".out.partial" / "train.bin"))

    monkeypatch.setattr(prepare_module, "counting_baseline", stop)
    with pytest.raises(MachineError) as in_folder:
        prepare([poem], tmp_path / "out", "char")
    with pytest.raises(MachineError) as in_cache:
        prepare_cached([poem], "char")
    for caught, elsewhere in ((in_folder, "a folder elsewhere"), (in_cache, "GLASSGPT_CACHE")):
        assert advice in str(caught.value)
        assert ("make room" in str(caught.value)) == (number in (errno.ENOSPC, errno.EDQUOT))
        assert elsewhere in str(caught.value)
        assert ".partial" not in str(caught.value)  # a name that the user never gave, gone by now


def test_a_file_in_the_way_of_the_folder_is_told(poem):
    with pytest.raises(MachineError, match=r"poem\.txt.out could not be written \([^;]+\); name a folder elsewhere"):
        prepare([poem], Path(poem) / "out", "char")


def test_a_reader_of_the_progress_that_leaves_is_no_matter_of_disks(poem, tmp_path):
    def gone(stage, share):
        if stage != "reading the text":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        prepare([poem], tmp_path / "out", "char", progress=gone)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["poem.txt"]


def test_an_unknown_kind_is_the_tokenizers_error_and_leaves_nothing(poem, tmp_path):
    with pytest.raises(TokenizerError, match="bep"):
        prepare([poem], tmp_path / "deep" / "out", "bep")
    assert list((tmp_path / "deep").iterdir()) == []


def test_text_that_changes_while_it_is_read_is_noticed(notes, tmp_path):
    def change(stage, share):
        if "tokens" in stage or "vocabulary" in stage:
            (Path(notes) / "1" / "1.txt").write_text("longer than it was before")

    with pytest.raises(DataError, match="the text changed while it was read"):
        prepare([notes], tmp_path / "out", "bpe", 280, progress=change)


def test_the_cache_is_used_again_and_mended(notes, own_cache, write):
    first = prepare_cached([notes], "bpe", 290)
    assert first.path.parent == own_cache / "data"
    before = folder_bytes(first.path)
    written = (first.path / "train.bin").stat().st_mtime_ns
    write("notes/another.jpg", b"\0")  # the same text beside one more file that is none
    again = prepare_cached([notes + os.sep], "bpe", 290)
    assert (again.path / "train.bin").stat().st_mtime_ns == written
    assert again.path == first.path
    assert {s.name for s in again.meta.skipped} == {"photo.jpg", "another.jpg"}
    assert again.meta.sources == (notes + os.sep,)
    for settings in ({"vocab_size": 291}, {"tokenizer": "char", "vocab_size": None}):
        assert prepare_cached([notes], **{"tokenizer": "bpe", **settings}).path != first.path

    (first.path / "val.bin").write_bytes(b"damaged")
    (first.path / "meta.json").unlink()
    write("notes/another.jpg", b"\0").unlink()
    mended = prepare_cached([notes], "bpe", 290)
    assert folder_bytes(mended.path) == before
    assert not [p for p in (own_cache / "data").iterdir() if p.name.endswith(".partial")]


def test_what_a_killed_preparation_left_is_removed_after_a_day(notes, own_cache):
    def leave(name, folder_age, file_age):
        folder = own_cache / "data" / name
        folder.mkdir(parents=True)
        (folder / "train.bin").write_bytes(b"half")
        for path, age in ((folder / "train.bin", file_age), (folder, folder_age)):
            then = time.time() - age * 3600
            os.utime(path, (then, then))

    leave(".dead.0123abcd.partial", 25, 30)
    leave(".alive.0123abcd.partial", 30, 1)  # began long ago, still writes
    leave(".began.0123abcd.partial", 1, 30)
    leave("finished", 50, 50)
    leave(".somebody.elses", 50, 50)
    kept = {".alive.0123abcd.partial", ".began.0123abcd.partial", "finished", ".somebody.elses"}
    data = prepare_cached([notes], "byte")
    assert {p.name for p in (own_cache / "data").iterdir()} == kept | {data.path.name}


def test_what_a_killed_preparation_left_beside_ones_own_folder_is_removed_after_a_day(notes, tmp_path):
    """Only what carries this folder's name: the place belongs to a person, who may keep anything there."""
    names = [".out.0123abcd.partial", ".other.0123abcd.partial", ".out.download.partial", ".[a].0123abcd.partial"]
    for name in names:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1e9, 1e9))
    (tmp_path / ".out.76543210.partial").mkdir()
    prepare([notes], tmp_path / "out", "byte")
    assert sorted(p.name for p in tmp_path.glob(".*")) == sorted([*names[1:], ".out.76543210.partial"])
    prepare([notes], tmp_path / "[a]", "byte")
    assert not (tmp_path / names[3]).exists()


def test_a_left_folder_that_vanishes_meanwhile_or_cannot_be_removed_hinders_nobody(notes, own_cache, monkeypatch):
    """Another process removes it at the same time; or it is another user's."""
    for name in (".gone.0123abcd.partial", ".held.0123abcd.partial"):
        folder = own_cache / "data" / name
        folder.mkdir(parents=True)
        (folder / "train.bin").write_bytes(b"half")
        for path in (folder / "train.bin", folder):
            os.utime(path, (1e9, 1e9))
    real_stat, real_rmtree, asked = Path.stat, shutil.rmtree, []

    def vanishing(path, **more):
        if "gone" in os.fspath(path):
            raise FileNotFoundError(errno.ENOENT, "gone", os.fspath(path))
        return real_stat(path, **more)

    def rmtree(folder, ignore_errors=False, **more):
        if "held" in os.fspath(folder):
            asked.append(Path(folder).name)
            if not ignore_errors:
                raise PermissionError(errno.EACCES, "held", os.fspath(folder))
        else:
            real_rmtree(folder, ignore_errors, **more)

    monkeypatch.setattr(Path, "stat", vanishing)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert prepare_cached([notes], "byte").path.is_dir()
    assert asked == [".held.0123abcd.partial"]


def test_a_tokenizer_of_ones_own_is_part_of_the_cache_key(poem):
    one, two = (build_tokenizer("bpe", lambda: iter([POEM]), size) for size in (300, 310))
    assert prepare_cached([poem], one).path != prepare_cached([poem], two).path
    assert prepare_cached([poem], two).tokenizer().to_json() == two.to_json()


def test_processes_that_prepare_the_same_at_once_all_end_well(notes, own_cache):
    code = f"from glassgpt.data import prepare_cached; print(prepare_cached([{notes!r}], 'bpe', 290).meta.fingerprint)"
    racers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {racer.communicate(timeout=60)[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert [p.name for p in (own_cache / "data").iterdir()] == list(printed)


def test_a_folder_that_appears_meanwhile_is_used(notes, own_cache, monkeypatch):
    winner = prepare_cached([notes], "byte")
    written = (winner.path / "train.bin").stat().st_mtime_ns
    looked = iter([None])  # the first look finds nothing, as if the other process had not finished then
    whole = prepare_module.load_if_whole
    monkeypatch.setattr(prepare_module, "load_if_whole", lambda folder: next(looked, whole(folder)))
    assert prepare_cached([notes], "byte").path == winner.path
    assert (winner.path / "train.bin").stat().st_mtime_ns == written
    assert [p.name for p in (own_cache / "data").iterdir()] == [winner.path.name]


def test_a_damaged_folder_that_another_process_takes_away_first_is_replaced(notes, own_cache, monkeypatch):
    first = prepare_cached([notes], "byte")
    before = folder_bytes(first.path)
    (first.path / "meta.json").write_text("damaged")
    looks, whole = [], prepare_module.load_if_whole

    def look(folder):
        looks.append(whole(folder))
        if len(looks) == 2:  # the look after the renaming that failed
            shutil.rmtree(folder)
        return looks[-1]

    monkeypatch.setattr(prepare_module, "load_if_whole", look)
    assert folder_bytes(prepare_cached([notes], "byte").path) == before
    assert [p.name for p in (own_cache / "data").iterdir()] == [first.path.name]


def test_out_may_begin_with_the_home(poem, tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, os.fspath(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert prepare([poem], "~/out", "char").path == tmp_path / "out"
    assert not (tmp_path / "~").exists()


def test_the_summary_counts_and_shows(notes, tmp_path):
    data = prepare([notes], tmp_path / "out", "byte")
    summary = summarize(data)
    assert summary.documents == 23
    assert summary.tokens == len(data.train) + len(data.val)
    assert summary.bytes_per_token == summary.source_bytes / (summary.source_bytes + 23 - 2)
    assert summary.skipped == {"binary (a zero byte near its start)": (1, ("photo.jpg",))}
    assert summary.sample == data.tokenizer().decode(data.train[:60].tolist())
    text = "\n".join(summary.lines())
    for fact in ("23 documents", "vocabulary 257", "photo.jpg", f"{data.meta.baseline_bits_per_byte:.3f}", "Note"):
        assert fact in text


def test_documents_that_nothing_separates_are_told(notes, poem, write, tmp_path):
    """A char vocabulary of a single text has no token for it, nor has many a tokenizer from elsewhere."""
    alphabet = write(
        "alphabet.txt", "".join(sorted({c for p in Path(notes).glob("*/*.txt") for c in p.read_text()})) * 9
    )
    unmarking = prepare([os.fspath(alphabet)], tmp_path / "alphabet", "char").tokenizer()
    assert unmarking.end_of_text is None
    line = "this tokenizer has no <|endoftext|>: documents follow each other unmarked"
    data = prepare([notes], tmp_path / "notes-char", unmarking)
    assert summarize(data).facts().count(line) == 1
    assert data.meta.train.source_bytes == data.meta.train.tokens  # nothing stands between them
    assert line not in summarize(load_data(tmp_path / "alphabet")).facts()  # nothing to separate
    assert line not in summarize(prepare([notes], tmp_path / "marked", "char")).facts()


def test_one_document_that_stands_for_all_is_told(poem, notes, write, tmp_path):
    write("two/prose.txt", "Nothing in here is like what is there. " * 40)
    write("two/figures.txt", "0 1 2 3 4 5 6 7 8 9 " * 60)
    data = prepare([os.fspath(tmp_path / "two")], tmp_path / "out", "byte")
    share = len(data.val) / (len(data.val) + len(data.train))
    (line,) = [line for line in summarize(data).facts() if "one document of 2 is all" in line]
    assert f"({share:.0%} of the tokens)" in line and 0.3 < share < 0.5
    for other in (prepare([poem], tmp_path / "single", "byte"), prepare([notes], tmp_path / "many", "byte")):
        assert "is all that is for validation" not in " ".join(summarize(other).facts())


def test_progress_names_each_stage_and_ends(poem, tmp_path):
    seen = []
    prepare([poem], tmp_path / "out", "bpe", 290, progress=lambda stage, share: seen.append((stage, share)))
    assert [s for s, share in seen if share == 1.0] == [
        "reading the text",
        "turning text into tokens",
        "counting byte n-grams",
    ]
    assert any("vocabulary of 290" in s for s, _ in seen)


def test_preparing_does_without_torch(poem, tmp_path):
    code = (
        "import sys, glassgpt.data as data; "
        f"data.load_data(data.prepare([{poem!r}], {os.fspath(tmp_path / 'out')!r}, 'char').path); "
        "assert 'torch' not in sys.modules; data.Batches; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_was_prepared_is_what_is_loaded(poem, tmp_path):
    data = prepare([poem], tmp_path / "out", "char")
    again = load_data(os.fspath(tmp_path / "out"), verify=True)
    assert again.meta == data.meta
    assert (again.train == data.train).all()
