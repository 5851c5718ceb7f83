"""Sources -> files -> documents: what is read, in which order, what is skipped and what is refused."""

import hashlib
import io
import os
import sys
import threading
from http.client import IncompleteRead
from types import SimpleNamespace

import pytest

from glassgpt.data import builtin
from glassgpt.data.corpus import open_corpus
from glassgpt.errors import DataError


def names(*sources, text_field="text"):
    with open_corpus([os.fspath(s) for s in sources], text_field) as corpus:
        return [d.name for d in corpus]


def skipped(*sources):
    with open_corpus([os.fspath(s) for s in sources]) as corpus:
        return {s.name: s.reason for s in corpus.skipped}


def test_a_folder_is_every_text_below_it_in_order_of_path(write, tmp_path):
    for name in ("b.txt", "a/z.md", "a.py", "a/deep/er/x", "Z.TXT", ".git/config", "a/.hidden", "__pycache__/m.py"):
        write(f"notes/{name}", "text")
    assert names(tmp_path / "notes") == ["Z.TXT", "a.py", "a/deep/er/x", "a/z.md", "b.txt"]
    assert names(tmp_path / "notes" / ".git") == ["config"]  # named itself, hidden or not


def test_found_files_that_are_no_text_are_skipped_with_their_reason(write, tmp_path):
    write("notes/good.txt", "text")
    write("notes/image.png", b"\x89PNG\0\0")
    write("notes/latin1.txt", b"caf\xe9")
    write("notes/empty.txt", "")
    write("notes/only_mark.txt", b"\xef\xbb\xbf")
    write("notes/table.csv", "id,name\n1,x\n")
    write("notes/rows.jsonl", '{"text": ""}\n{"text": "x"}\n{"text": ""}\n')
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "notes" / "pipe")
    found = skipped(tmp_path / "notes")
    assert found.pop("pipe", "not a regular file") == "not a regular file"
    assert found == {
        "image.png": "binary (a zero byte near its start)",
        "latin1.txt": "not UTF-8",
        "empty.txt": "empty",
        "only_mark.txt": "empty",
        "table.csv": "no field 'text'",
        "rows.jsonl": "in part: 2 empty records",
    }
    assert names(tmp_path / "notes") == ["good.txt", "rows.jsonl:2"]
    assert names(tmp_path / "notes" / "*.*") == ["good.txt", "rows.jsonl:2"]


def test_a_malformed_record_is_an_error_even_in_a_folder(write, tmp_path):
    write("notes/rows.jsonl", '{"text": "x"}\n{')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: not JSON"):
        names(tmp_path / "notes")


def test_a_named_file_that_is_no_text_is_an_error(write):
    with pytest.raises(DataError, match=r"a\.png is not text: byte 1 is zero"):
        names(write("a.png", b"a\0"))


def test_overlapping_sources_count_a_file_once(write, tmp_path):
    a, b = write("notes/a.txt", "a"), write("notes/b.txt", "b")
    assert names(tmp_path / "notes", a, tmp_path / "notes" / "*.txt", b) == ["a.txt", "b.txt"]
    if hasattr(os, "symlink"):
        (tmp_path / "notes" / "c.txt").symlink_to(a)
        assert len(names(tmp_path / "notes")) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_loop_of_links_ends(write, tmp_path):
    write("notes/deep/a.txt", "a")
    (tmp_path / "notes" / "deep" / "up").symlink_to(tmp_path / "notes")
    (tmp_path / "notes" / "gone").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path / "notes") == ["deep/a.txt"]
    assert skipped(tmp_path / "notes") == {"deep/up": "a link to a folder", "gone": "not a regular file"}


def test_a_glob_names_files_relative_to_its_fixed_part(write, tmp_path):
    for name in ("notes/a.md", "notes/sub/b.md", "notes/c.txt"):
        write(name, "text")
    assert names(tmp_path / "notes" / "**" / "*.md") == ["a.md", "sub/b.md"]


def test_what_is_missing_is_named_with_a_suggestion(write, tmp_path, monkeypatch):
    write("holmes.txt", "text")
    with pytest.raises(DataError, match=r"holms\.txt does not exist; did you mean .*holmes\.txt\?"):
        names(tmp_path / "holms.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"shakespear does not exist in .*; did you mean shakespeare\?"):
        names("shakespear")
    with pytest.raises(DataError, match=r"no file matches .*\*\.rst; quote"):
        names(tmp_path / "*.rst")
    with pytest.raises(DataError, match=r"nowhere.x does not exist; name a file, a folder"):
        names(tmp_path / "nowhere" / "x")


def test_nothing_to_read_is_an_error_that_says_why(write, tmp_path):
    with pytest.raises(DataError, match=r"no text in .*a\.txt \(a\.txt: empty\)"):
        names(write("a.txt", ""))
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="there are no files in it"):
        names(tmp_path / "bare")
    with pytest.raises(DataError, match="no text in an empty list"):
        names()


def test_standard_input_can_be_read_more_than_once(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"from a pipe")))
    with open_corpus(["-", "-"]) as corpus:
        assert [[d.text for d in corpus] for _ in range(2)] == [["from a pipe"], ["from a pipe"]]
        spooled = corpus.files[0].path
    assert not spooled.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_named_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("through a pipe",))
    writer.start()
    with open_corpus([os.fspath(tmp_path / "pipe")]) as corpus:
        assert [d.text for d in corpus] == ["through a pipe"]
    writer.join()


def test_the_fingerprint_follows_names_and_contents_only(write, tmp_path):
    def fingerprint(folder):
        with open_corpus([os.fspath(tmp_path / folder)]) as corpus:
            return corpus.fingerprint

    for folder in ("one", "two"):
        write(f"{folder}/a.txt", "ab")
        write(f"{folder}/b.txt", "c")
    assert fingerprint("one") == fingerprint("two")
    write("two/b.txt", "d")
    assert fingerprint("one") != fingerprint("two")
    write("two/b.txt", "bc")
    write("two/a.txt", "a")  # the same bytes in all, another border
    assert fingerprint("one") != fingerprint("two")
    write("two/a.txt", "ab")
    write("two/b.txt", "c")
    assert fingerprint("one") == fingerprint("two")
    (tmp_path / "two" / "b.txt").rename(tmp_path / "two" / "c.txt")
    assert fingerprint("one") != fingerprint("two")


def test_the_python_corpus_is_source_without_tests_and_tables():
    with open_corpus(["python"]) as corpus:
        found = [d.name for d in corpus]
        assert 5 << 20 < sum(corpus.sizes) < 20 << 20
    assert found == sorted(found)
    assert {"os.py", "json/decoder.py"} <= set(found)
    assert all(name.endswith(".py") for name in found)
    folders = {part for name in found for part in name.split("/")[:-1]}
    assert not folders & {"test", "tests", "idle_test", "encodings", "site-packages"}
    assert "pydoc_data/topics.py" in found


def test_shakespeare_without_a_network_says_how_to_pass_a_copy():
    with pytest.raises(DataError, match=r"cannot be downloaded \(no network in tests\); .*train PATH/TO/input\.txt"):
        names("shakespeare")


@pytest.mark.parametrize("problem", [IncompleteRead(b"half"), TimeoutError("timed out")])
def test_a_download_that_breaks_off_is_one_line(own_cache, monkeypatch, problem):
    def read(size):
        raise problem

    answer = io.BytesIO()
    answer.read = read
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: answer)
    with pytest.raises(DataError, match=r"cannot be downloaded \(.*\); download it by other means"):
        names("shakespeare")
    assert not own_cache.exists()


def test_shakespeare_is_downloaded_once_and_checked(own_cache, monkeypatch):
    calls = []

    def answer(url, timeout):
        calls.append(url)
        return io.BytesIO(b"To be, or not to be")

    monkeypatch.setattr("urllib.request.urlopen", answer)
    with pytest.raises(DataError, match="something else than tinyshakespeare"):
        names("shakespeare")
    assert not own_cache.exists()
    monkeypatch.setattr(builtin, "SHAKESPEARE_SHA256", hashlib.sha256(b"To be, or not to be").hexdigest())
    assert names("shakespeare") == names("shakespeare") == ["tinyshakespeare.txt"]
    assert len(calls) == 2
    assert [p.name for p in own_cache.iterdir()] == ["tinyshakespeare.txt"]
