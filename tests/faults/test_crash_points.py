"""Killed at every system call in turn: whatever was whole stays whole, and the next one clears up.

What a process has written survives its death, so this is about half-done work; for power cuts see test_order_on_disk.py.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glassgpt.checkpoint import Run
from glassgpt.checkpoint.commit import verify_folder
from glassgpt.data import load_data, prepare
from glassgpt.disk import replace_file
from glassgpt.errors import DataError

from .conftest import is_as_saved, save
from .system_calls import available, run_and_die

pytestmark = pytest.mark.skipif(not available(), reason="system calls cannot be traced here")


def every_death(work: Callable[[Path], object], begin: Path) -> Iterator[Path]:
    """Copies of the folder `begin`, in which `work` was killed at its first call, at its second and so on, up to its last."""
    n = 1
    while True:
        folder = begin.with_name(f"{begin.name}-{n}")
        shutil.copytree(begin, folder)
        if not run_and_die(lambda folder=folder: work(folder), folder, n):
            break
        yield folder
        n += 1
    assert n > 1


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path / "run")
    save(made, 3)
    return made


def test_a_save_that_is_killed_leaves_the_checkpoint_before_it_or_the_new_one(run):
    last_steps = []
    for folder in every_death(lambda folder: save(Run(folder), 4), run.folder):
        dead = Run(folder)
        last, damaged = dead.last_whole_checkpoint()
        last_steps.append(dead.steps()[-1])
        assert damaged == {} and last == dead.checkpoint_folder(last_steps[-1])
        assert dead.steps() in ([3], [3, 4]) and all(is_as_saved(dead, step) for step in dead.steps())

        following = last_steps[-1] + 1
        save(dead, following)
        assert names(dead.checkpoints_folder) == [dead.checkpoint_folder(s).name for s in range(3, following + 1)]
        assert verify_folder(dead.checkpoint_folder(following)) is None and is_as_saved(dead, following)
        assert names(dead.checkpoint_folder(following)) == names(dead.checkpoint_folder(3))
    assert last_steps == sorted(last_steps) and set(last_steps) == {3, 4}


def test_what_a_killed_save_leaves_goes_with_the_next_pruning(run):
    """Its step may never be saved again."""
    left = 0
    for folder in every_death(lambda folder: save(Run(folder), 4), run.folder):
        dead = Run(folder)
        kept = [dead.checkpoint_folder(step).name for step in dead.steps()]
        left += names(dead.checkpoints_folder) != kept
        dead.prune(2)
        assert names(dead.checkpoints_folder) == kept
    assert left > 0


def test_best_says_the_old_or_the_new_whenever_it_is_killed(run):
    run.write_best(3, 1.25)
    seen = []
    for folder in every_death(lambda folder: Run(folder).write_best(4, 1.125), run.folder):
        dead = Run(folder)
        seen.append(dead.best()["step"])
        assert dead.best_file.is_file() and dead.best() in (
            {"step": 3, "val_loss": 1.25},
            {"step": 4, "val_loss": 1.125},
        )
        copy = Run(shutil.copytree(folder, folder.with_name(f"{folder.name}-pruned")))
        dead.write_best(5, 1.0)
        assert dead.best() == {"step": 5, "val_loss": 1.0}
        copy.prune(2)
        assert names(dead.checkpoints_folder) == names(copy.checkpoints_folder) == ["best.json", "step-00000003"]
    assert seen == sorted(seen) and set(seen) == {3, 4}


def test_a_small_file_that_was_not_there_is_absent_or_whole(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in every_death(lambda folder: replace_file(folder / "x", b"new"), tmp_path / "empty"):
        assert not (folder / "x").exists() or (folder / "x").read_text() == "new"
        replace_file(folder / "x", b"newer")
        assert names(folder) == ["x"] and (folder / "x").read_text() == "newer"


def test_pruning_that_is_killed_leaves_no_half_checkpoint(run):
    for step in (4, 5):
        save(run, step)
    run.write_best(4, 1.0)
    counts = []
    for folder in every_death(lambda folder: Run(folder).prune(1), run.folder):
        dead = Run(folder)
        counts.append(len(dead.steps()))
        assert set(dead.steps()) >= {4, 5} and all(is_as_saved(dead, step) for step in dead.steps())
        assert dead.last_whole_checkpoint() == (dead.checkpoint_folder(5), {})
        dead.prune(1)
        assert names(dead.checkpoints_folder) == ["best.json", "step-00000004", "step-00000005"]
    assert counts == sorted(counts, reverse=True) and set(counts) == {3, 2}


def is_refused(folder: Path) -> bool:
    try:
        load_data(folder)
    except DataError:
        return True
    return False


def test_a_preparation_that_is_killed_leaves_no_folder_that_passes_for_whole(tmp_path, text):
    whole = prepare([text], tmp_path / "whole", "char")
    (tmp_path / "begin").mkdir()
    outcomes = []
    for folder in every_death(lambda folder: prepare([text], folder / "out", "char"), tmp_path / "begin"):
        outcomes.append((folder / "out").exists())
        for left in folder.glob(".*"):
            assert is_refused(left) or load_data(left, verify=True).meta == whole.meta  # killed before its last step
            a_day_ago = time.time() - 25 * 3600
            for path in (*left.iterdir(), left):
                os.utime(path, (a_day_ago, a_day_ago))
        if not outcomes[-1]:
            prepare([text], folder / "out", "char")
            assert names(folder) == ["out"]
        assert load_data(folder / "out", verify=True).meta == whole.meta
        assert names(folder / "out") == names(whole.path)
        assert all(
            (folder / "out" / name).read_bytes() == (whole.path / name).read_bytes() for name in names(whole.path)
        )
    assert outcomes == sorted(outcomes) and set(outcomes) == {False, True}
