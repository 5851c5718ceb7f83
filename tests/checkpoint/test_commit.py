import json
import shutil

import pytest

from glassgpt.checkpoint.commit import MANIFEST, commit_folder, remove_folder, verify_folder
from glassgpt.errors import CheckpointError


def writers():
    return {"a.bin": lambda path: path.write_bytes(b"abcdef"), "b.json": lambda path: path.write_text("{}")}


@pytest.fixture
def folder(tmp_path):
    commit_folder(tmp_path / "step", writers())
    return tmp_path / "step"


def test_a_committed_folder_is_whole_and_alone(folder):
    assert verify_folder(folder) is None
    assert sorted(p.name for p in folder.iterdir()) == ["a.bin", "b.json", MANIFEST]
    assert [p.name for p in folder.parent.iterdir()] == ["step"]


def test_a_committed_folder_is_never_overwritten(folder):
    with pytest.raises(CheckpointError, match="is already there, and nothing is overwritten; choose another place"):
        commit_folder(folder, {"a.bin": lambda path: path.write_bytes(b"other")})
    assert (folder / "a.bin").read_bytes() == b"abcdef"


@pytest.mark.parametrize("problem", [OSError("disk"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_nothing(tmp_path, problem):
    def fail(path):
        path.write_bytes(b"half")
        raise problem

    with pytest.raises(type(problem)):
        commit_folder(tmp_path / "step", writers() | {"c": fail})
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_save_left_is_cleared_by_the_next(tmp_path):
    left = tmp_path / ".writing-step"
    left.mkdir()
    (left / "old").write_text("half")
    commit_folder(tmp_path / "step", writers())
    assert not left.exists() and not (tmp_path / "step/old").exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "a.bin").write_bytes(b"abcdeX"), r"a\.bin is not what was written \(its sha256 differs\)"),
        (lambda f: (f / "a.bin").write_bytes(b"abc"), r"a\.bin has 3 bytes instead of 6"),
        (lambda f: (f / "b.json").unlink(), r"b\.json is missing"),
        (lambda f: (f / MANIFEST).unlink(), r"manifest\.json is missing"),
        (lambda f: (f / MANIFEST).write_text("[1"), r"manifest\.json cannot be read"),
        (lambda f: (f / MANIFEST).write_text("[1]"), r"manifest\.json cannot be read"),
        (lambda f: (f / MANIFEST).write_text(json.dumps({"a.bin": {}})), r"manifest\.json cannot be read"),
        (lambda f: (shutil.copy(f / "a.bin", f / "x"), shutil.copy(f / "b.json", f / "a.bin")), r"a\.bin has 2 bytes"),
    ],
)
def test_damage_is_noticed_and_named(folder, damage, reason):
    import re

    damage(folder)
    assert re.search(reason, verify_folder(folder))


def test_removal_leaves_nothing(folder):
    remove_folder(folder)
    assert list(folder.parent.iterdir()) == []
