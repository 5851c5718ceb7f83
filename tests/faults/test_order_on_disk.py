"""The order in which things reach the disk, so that a power cut between any two of them takes nothing that was promised.

Until a file is synced its content may be lost, and until a folder is, the names that were made, changed or removed in it.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from glassgpt.checkpoint import Run, create_run
from glassgpt.checkpoint.commit import MANIFEST, remove_folder
from glassgpt.data import prepare
from glassgpt.disk import replace_file

from .conftest import save
from .system_calls import Call, available, trace

pytestmark = pytest.mark.skipif(not available(), reason="system calls cannot be traced here")


def unsynced(calls: Iterable[Call]) -> set[Path]:
    """The files and folders that a power cut after these calls could set back."""
    loose: set[Path] = set()
    for call in calls:
        path = call.paths[-1]
        if call.name == "sync":
            loose.discard(path)
        elif call.name in ("write", "open"):
            loose.add(path)
        elif call.name == "create":
            loose |= {path, path.parent}
        elif call.name == "rename":
            old = call.paths[0]
            loose -= {p for p in loose if p.is_relative_to(path)}
            loose = {path / p.relative_to(old) if p.is_relative_to(old) else p for p in loose}
            loose |= {old.parent, path.parent}
        else:
            loose -= {p for p in loose if call.name in ("unlink", "rmdir") and p.is_relative_to(path)}
            loose.add(path.parent)
    return loose


def within(folder: Path, paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.is_relative_to(folder)]


def commit_of(calls: list[Call], target: Path) -> int:
    """The place of the one rename that gives `target` its name, from beside it."""
    (place,) = [i for i, call in enumerate(calls) if call.name == "rename" and call.paths[1] == target]
    building = calls[place].paths[0]
    assert building != target and building.parent == target.parent
    return place


def changes(calls: list[Call], folder: Path) -> list[Call]:
    return [call for call in calls if call.name != "sync" and within(folder, call.paths)]


def sealing(calls: list[Call], name: str, place: int) -> int:
    """Where the writing of the file that is written last, `name`, begins in the folder that `place` commits."""
    folder = calls[place].paths[0]
    first = next(i for i, call in enumerate(calls) if call.paths[-1] == folder / name)
    assert {call.paths[-1] for call in changes(calls[first:place], folder)} == {folder / name}
    return first


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path / "run")
    save(made, 3)
    return made


@pytest.fixture
def saved(run):
    return trace(lambda: save(run, 4), run.folder.parent)


def test_every_file_of_a_checkpoint_is_on_the_disk_before_its_name(run, saved):
    place = commit_of(saved, run.checkpoint_folder(4))
    building = saved[place].paths[0]
    written = {call.paths[-1] for call in saved[:place] if call.name in ("create", "rename")}
    assert {building / p.name for p in run.checkpoint_folder(4).iterdir()} <= written
    assert within(building, unsynced(saved[:place])) == []


def test_the_manifest_is_written_when_all_that_it_vouches_for_is_on_the_disk(run, saved):
    place = commit_of(saved, run.checkpoint_folder(4))
    building = saved[place].paths[0]
    first = sealing(saved, MANIFEST, place)
    assert within(building, unsynced(saved[:first])) in ([], [building])  # the folder itself is synced once, at the end


def test_nothing_of_a_save_is_left_to_chance_at_its_end(run, saved):
    place = commit_of(saved, run.checkpoint_folder(4))
    assert unsynced(saved[: place + 1]) == {run.checkpoints_folder}
    assert unsynced(saved) == set()


def test_a_checkpoint_is_not_touched_once_it_has_its_name(run, saved):
    place = commit_of(saved, run.checkpoint_folder(4))
    assert changes(saved[:place], run.checkpoint_folder(4)) == []
    assert changes(saved[place + 1 :], run.folder) == []
    assert changes(saved, run.checkpoint_folder(3)) == []


def test_the_first_save_of_a_run_has_its_folder_on_the_disk_too(tmp_path):
    run = Run(tmp_path / "runs/first")
    calls = trace(lambda: save(run, 1), tmp_path)
    assert Call("mkdir", (run.checkpoints_folder,)) in calls
    assert unsynced(calls) == set()


@pytest.mark.parametrize("out", [None, Path("deep/er/run")])
def test_a_new_run_is_on_the_disk(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    calls = trace(lambda: create_run(out, "poems"), tmp_path)
    assert calls and unsynced(calls) == set()


@pytest.mark.parametrize("there", [True, False])
def test_a_small_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(tmp_path, there):
    best = tmp_path / "best.json"
    if there:
        best.write_text("old")
    calls = trace(lambda: replace_file(best, b"new"), tmp_path)
    place = commit_of(calls, best)
    assert calls[place].paths[0] not in unsynced(calls[:place])
    assert [call.name for call in changes(calls, best)] == ["rename"]
    assert unsynced(calls) == set()


def test_a_folder_loses_its_name_before_its_first_file(run):
    folder = run.checkpoint_folder(3)
    calls = trace(lambda: remove_folder(folder), run.folder)
    assert calls[0].name == "rename" and calls[0].paths[0] == folder
    first = next(i for i, call in enumerate(calls) if call.name == "unlink")
    assert unsynced(calls[:first]) == set()
    assert changes(calls[1:], folder) == []
    assert "unlink" in {call.name for call in calls} and not run.steps()


def test_a_prepared_folder_is_on_the_disk_before_its_name(tmp_path, text):
    out = tmp_path / "deep/er/out"
    calls = trace(lambda: prepare([text], out, "char"), tmp_path)
    place = commit_of(calls, out)
    folder = calls[place].paths[0]
    assert within(folder, unsynced(calls[:place])) == []
    first = sealing(calls, "meta.json", place)
    assert within(folder, unsynced(calls[:first])) in ([], [folder])
    assert changes(calls[place + 1 :], tmp_path) == []
    assert unsynced(calls) == set()
