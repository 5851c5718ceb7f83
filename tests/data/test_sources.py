"""What a source means: built-in names, paths, globs; what of ours lies between texts and is none; what cannot be read."""

import errno
import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from glassgpt.data import is_prepared, open_corpus, prepare, prepare_cached, text_name
from glassgpt.errors import DataError, MachineError

links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
permissions = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="there everything may be read, or by root"
)


def read(*sources) -> tuple[list[str], dict[str, str]]:
    """Names of the documents, and what was skipped why."""
    with open_corpus([os.fspath(s) for s in sources]) as corpus:
        return [d.name for d in corpus], {s.name: s.reason for s in corpus.skipped}


def refusal(*sources) -> str:
    with pytest.raises(DataError) as caught:
        read(*sources)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def ours(write, tmp_path):
    """notes/ with a text, and below it one of everything that GlassGPT itself writes."""
    write("notes/a.txt", "Tyger Tyger, burning bright")
    prepare([os.fspath(tmp_path / "notes")], tmp_path / "notes" / "data" / "notes", "byte")
    write("notes/runs/fresh/config.toml", "# a run that has not saved yet")
    write("notes/runs/fresh/metrics.jsonl", '{"text": "1"}\n')
    write("notes/runs/old/config.toml", "# a run")
    write("notes/runs/old/samples/step-3.txt", "what it wrote")
    for folder in ("notes/runs/old/checkpoints/step-3", "notes/kept/best"):
        write(f"{folder}/manifest.json", "{}")
        write(f"{folder}/model.safetensors", "weights")
    return tmp_path / "notes"


OURS = {
    "data/notes": "a prepared folder",
    "runs/fresh": "a run",
    "runs/old": "a run",
    "kept/best": "a checkpoint",
}


def test_a_bare_builtin_name_is_never_a_path(write, tmp_path, monkeypatch):
    write("python/mine.txt", "mine")
    write("shakespeare", "mine")
    monkeypatch.chdir(tmp_path)
    assert "os.py" in read("python")[0]
    assert "cannot be downloaded" in refusal("shakespeare")
    for mine in ("./python", "python/", tmp_path / "python"):
        assert read(mine)[0] == ["mine.txt"]
    assert read("./shakespeare")[0] == ["shakespeare"]


def test_a_prepared_folder_with_a_builtin_name_is_meant_by_its_path_only(write, tmp_path, monkeypatch):
    text = write("a.txt", "Tyger Tyger")
    monkeypatch.chdir(tmp_path)
    prepare([os.fspath(text)], "python", "byte")
    assert [is_prepared(source) for source in ("python", "./python", Path("python"))] == [False, True, True]
    assert text_name(["./python"]) == text_name(["python"]) == "python"


@links
def test_a_link_gives_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "version-7").mkdir()
    (tmp_path / "notes").symlink_to("version-7")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    assert [text_name([source]) for source in ("notes", "loop", "version-7/../notes")] == ["notes", "loop", "notes"]


def test_what_glassgpt_wrote_is_no_text_where_it_is_found(ours):
    assert read(ours) == (["a.txt"], OURS)


@pytest.mark.parametrize("pattern", ["*", "**", "**/*", "**/*.*"])
def test_what_glassgpt_wrote_is_no_text_for_a_glob_either(ours, pattern):
    assert read(ours / pattern) == (["a.txt"], OURS)


def test_a_glob_that_begins_in_a_run_means_what_it_says(ours):
    old = ours / "runs" / "old"
    assert read(old / "s*" / "*.txt")[0] == ["samples/step-3.txt"]
    assert read(old / "**") == (["config.toml", "samples/step-3.txt"], {"checkpoints/step-3": "a checkpoint"})


def test_a_glob_names_files_in_folders_that_it_matches_from_its_fixed_part_on(write, tmp_path):
    for name in ("notes/x/a.txt", "notes/y/a.txt", "notes/b.txt"):
        write(name, "text")
    assert sorted(read(tmp_path / "notes" / "*")[0]) == ["b.txt", "x/a.txt", "y/a.txt"]


def test_what_glassgpt_wrote_is_refused_where_it_is_named(ours):
    for name in ("runs/fresh", "runs/old"):
        assert f"{name} is a run, not text; sample from it or resume it" in refusal(ours / name).replace("\\", "/")
    assert "best is a checkpoint, not text; sample from it" in refusal(ours / "kept" / "best")
    prepared = ours / "data" / "notes"
    for sources in ([prepared], [ours / "a.txt", prepared]):
        assert f"{prepared} is a prepared folder, not text; train on it alone: glassgpt train" in refusal(*sources)
    with pytest.raises(DataError, match="is a prepared folder"):
        prepare([os.fspath(prepared)], ours / "again", "byte")
    assert not (ours / "again").exists()


def test_a_toml_file_beside_text_is_text(write, tmp_path):
    for name in ("config.toml", "meta.json", "a.txt"):
        write(f"notes/{name}", "text")
    assert read(tmp_path / "notes") == (["a.txt", "config.toml", "meta.json"], {})


def test_nothing_is_no_source(write, tmp_path, monkeypatch):
    text = write("a.txt", "the current folder must not be read")
    monkeypatch.chdir(tmp_path)
    assert "an empty name is no source" in refusal("")
    assert "an empty name is no source" in refusal(text, "")
    prepare([os.fspath(text)], "prepared", "byte")
    monkeypatch.chdir("prepared")
    assert not is_prepared("")


@pytest.mark.skipif(sys.platform == "win32", reason="there any name may be a home")
def test_a_home_that_does_not_exist_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASSGPT_CACHE", os.fspath(tmp_path))
    assert "~nosuchuser/x" in (message := refusal("~nosuchuser/x")) and "home" in message
    with pytest.raises(DataError, match="~nosuchuser/x"):
        is_prepared("~nosuchuser/x")
    assert text_name(["~nosuchuser/x"]) == "x"


def test_a_prepared_folder_in_ones_home_is_found(write, tmp_path, monkeypatch):
    from glassgpt.data import load_data

    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, os.fspath(tmp_path))
    prepare([os.fspath(write("a.txt", "Tyger Tyger"))], tmp_path / "prepared", "byte")
    assert is_prepared("~/prepared")
    assert load_data("~/prepared").meta == load_data(tmp_path / "prepared").meta


@links
def test_a_link_to_nowhere_is_named(write, tmp_path):
    write("notes/a.txt", "text")
    (tmp_path / "notes" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes" / "loop").symlink_to("loop")
    for name in ("gone", "loop"):
        assert f"{name} is a link that leads nowhere" in refusal(tmp_path / "notes" / name)
    assert read(tmp_path / "notes") == (["a.txt"], dict.fromkeys(("gone", "loop"), "not a regular file"))
    assert read(tmp_path / "notes" / "*") == (["a.txt"], dict.fromkeys(("gone", "loop"), "not a regular file"))


def test_a_text_for_a_name_is_an_error_of_one_line():
    poem = "In the forests of the night " * 20
    assert "does not exist" in refusal(poem)
    assert "does not exist" in refusal(f"{poem}/a.txt")
    assert not is_prepared(poem)


@pipes
def test_a_pipe_in_a_folder_is_not_waited_for(write, tmp_path):
    write("notes/a.txt", "text")
    os.mkfifo(tmp_path / "notes" / "pipe")
    for source in (tmp_path / "notes", tmp_path / "notes" / "*"):
        assert read(source) == (["a.txt"], {"pipe": "not a regular file"})


@pipes
def test_two_pipes_of_one_name_are_two_texts(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / "pipe")
        threading.Thread(target=(tmp_path / name / "pipe").write_text, args=(name,), daemon=True).start()
    with open_corpus([os.fspath(tmp_path / name / "pipe") for name in ("one", "two")]) as corpus:
        assert [d.text for d in corpus] == ["one", "two"]


def forbid(monkeypatch, name):
    """As chmod 0 on the folder around `name`, which says nothing to root: its entries are listed, and that is all."""
    for function in ("stat", "lstat"):
        real = getattr(os, function)

        def denied(path, *arguments, real=real, **more):
            if isinstance(path, str | os.PathLike) and Path(path).name == name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return real(path, *arguments, **more)

        monkeypatch.setattr(os, function, denied)


def test_what_may_not_be_looked_at_is_skipped_or_named(write, tmp_path, monkeypatch):
    write("notes/a.txt", "text")
    write("notes/secret.txt", "text")
    forbid(monkeypatch, "secret.txt")
    assert read(tmp_path / "notes") == (["a.txt"], {"secret.txt": "cannot be read"})
    assert read(tmp_path / "notes" / "*") == (["a.txt"], {"secret.txt": "cannot be read"})
    assert "secret.txt cannot be read: Permission denied" in refusal(tmp_path / "notes" / "secret.txt")
    assert not is_prepared(tmp_path / "notes" / "secret.txt")


@permissions
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_may_not_be_entered_is_skipped_or_named(write, tmp_path, mode):
    write("notes/a.txt", "text")
    write("notes/closed/deep/b.txt", "text")
    write("notes/closed/c.txt", "text")
    closed = tmp_path / "notes" / "closed"
    closed.chmod(mode)
    try:
        for source in (tmp_path / "notes", tmp_path / "notes" / "*", tmp_path / "notes" / "**" / "*"):
            found, skipped = read(source)
            assert found == ["a.txt"] and set(skipped.values()) == {"cannot be read"}
        assert "cannot be read" in refusal(closed)
        if mode != 0o111:
            assert "c.txt cannot be read: Permission denied" in refusal(closed / "c.txt")
            assert "d.txt cannot be read: Permission denied" in refusal(closed / "d.txt")
        assert not is_prepared(closed)
    finally:
        closed.chmod(0o755)


@permissions
def test_a_file_that_may_not_be_read_is_skipped_or_named(write, tmp_path):
    write("notes/a.txt", "text")
    write("notes/b.txt", "text").chmod(0)
    assert read(tmp_path / "notes") == (["a.txt"], {"b.txt": "cannot be read"})
    assert "b.txt cannot be read: Permission denied" in refusal(tmp_path / "notes" / "b.txt")


class Broken(io.RawIOBase):
    """A file that fails once its first bytes are read."""

    def __init__(self, problem: OSError) -> None:
        self.problem, self.calls = problem, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self.calls += 1
        if self.calls > 1:
            raise self.problem
        buffer[:1] = b"x"
        return 1


def test_standard_input_that_breaks_is_named(monkeypatch):
    bad = OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Broken(bad)))
    assert "standard input cannot be read: Input/output error" in refusal("-")


def test_a_full_disk_under_standard_input_is_the_machines_error(monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Broken(full)))
    with pytest.raises(
        MachineError,
        match=r"a copy of standard input in .* \(No space left on device\): [\d,]+ bytes are free; make room, or name",
    ):
        read("-")


def break_reading(monkeypatch, name, after):
    """Reading `name` fails from the opening number `after` on (from 0) once something has been read."""
    real, opened = Path.open, []

    def opening(path, mode="r", *arguments, **more):
        if path.name == name and "b" in mode:
            opened.append(path)
            if len(opened) > after:
                return io.BufferedReader(Broken(OSError(errno.EIO, os.strerror(errno.EIO))), 1)
        return real(path, mode, *arguments, **more)

    monkeypatch.setattr(Path, "open", opening)


def test_a_file_that_breaks_while_it_is_read_is_skipped_or_named(write, tmp_path, monkeypatch):
    write("notes/a.txt", "text")
    bad = write("notes/b.txt", "text")
    # Each reading opens a file twice: to see whether it is binary, and for its text.
    for sources, expected in (([tmp_path / "notes"], True), ([bad], False)):
        with monkeypatch.context() as patch:
            break_reading(patch, "b.txt", after=1)
            if expected:
                assert read(*sources) == (["a.txt"], {"b.txt": "cannot be read"})
            else:
                assert "b.txt cannot be read: Input/output error" in refusal(*sources)


def test_a_file_that_breaks_later_is_named_as_what_is_wrong(write, tmp_path, monkeypatch):
    """Not as a full disk: it is the text that cannot be read, not the folder that cannot be written."""
    write("notes/a.txt", "text " * 9)
    write("notes/b.txt", "text " * 9)
    notes = [os.fspath(tmp_path / "notes")]
    for work in (lambda: prepare(notes, tmp_path / "out", "byte"), lambda: prepare_cached(notes, "byte")):
        with monkeypatch.context() as patch:
            break_reading(patch, "b.txt", after=3)
            with pytest.raises(DataError, match="b.txt cannot be read: Input/output error") as caught:
                work()
        assert "room" not in str(caught.value)
