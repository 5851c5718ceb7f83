"""No room for a checkpoint: nothing that was whole is lost, one line says what is missing, and with room the run goes on."""

import errno
import os
import re
from pathlib import Path

import pytest

from glassgpt.checkpoint import Run
from glassgpt.disk import replace_file
from glassgpt.errors import MachineError
from glassgpt.formats.folder import write_folder
from glassgpt.tokenizer import build_tokenizer, save_tokenizer

from ..warm import Warm
from .conftest import mounted, save
from .killing import SETTINGS, differences, what_remains, write_text

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
# Every checkpoint is kept, and takes about 100 kB.
TRAIN = ["train", "../words.txt", *SETTINGS, "--keep-checkpoints", "99", "--out"]


def last_line(folder):
    *progress, line = (folder / "said").read_text().splitlines()
    assert not any(piece.startswith(("glassgpt: ", "Trace")) for piece in progress)
    return line


def test_a_disk_that_fills_up_ends_the_run_whole_and_with_room_it_goes_on(tmp_path, small_disk):
    write_text(tmp_path)
    (tmp_path / "other").mkdir()
    with Warm() as warm:
        warm.begin(tmp_path / "other", *TRAIN, "whole")
        assert warm.end() == 0, (tmp_path / "other/said").read_text()
        warm.begin(small_disk, *TRAIN, "run")
        assert warm.end() == 1
        line = last_line(small_disk)
        assert re.fullmatch(
            r"glassgpt: (checkpoint run/checkpoints/step-\d+|run/metrics.jsonl) could not be written \(.*No space left .*\): "
            r"[\d,]+ bytes are needed, [\d,]+ are free; .*make room, .*then go on with: glassgpt resume run",
            line,
        )
        run = Run(small_disk / "run")
        assert len(run.steps()) > 2 and all(run.problem_of(step) is None for step in run.steps())
        warm.begin(small_disk, "resume", "run")  # no better
        assert warm.end() == 1 and last_line(small_disk).startswith("glassgpt: ")
        assert mounted(small_disk, "remount", "size=50m")
        warm.begin(small_disk, "resume", "run")
        assert warm.end() == 0, (small_disk / "said").read_text()
    found = differences(what_remains(Run(tmp_path / "other/whole")), what_remains(run))
    assert [name for name in found if name != "checkpoints"] == []


def test_a_run_that_nobody_may_write_to_any_more_is_one_line_at_once(tmp_path, small_disk):
    write_text(tmp_path)
    with Warm() as warm:
        warm.begin(small_disk, "train", "../words.txt", *SETTINGS, "--keep-checkpoints", "2", "--out", "run")
        assert warm.end() == 0, (small_disk / "said").read_text()
        assert mounted(small_disk, "remount", "ro", "size=1200k")
        before = {path.name for path in (small_disk / "run").rglob("*")}
        warm.begin(tmp_path, "resume", "disk/run", "--max-steps", "90")
        assert warm.end() == 1
    assert (tmp_path / "said").read_text() == (
        "glassgpt: disk/run cannot be written to, and a run that is trained writes there; make all of disk/run writable (its "
        "rights, or how its disk is mounted), or copy it elsewhere and resume the copy\n"
    )
    assert {path.name for path in (small_disk / "run").rglob("*")} == before


def test_a_folder_that_nobody_may_write_to_is_found_before_the_first_step(tmp_path, locked):
    write_text(tmp_path)
    with Warm() as warm:
        warm.begin(tmp_path, "train", "words.txt", *SETTINGS, "--out", "locked/run")
        assert warm.end() == 1
    assert re.fullmatch(r"glassgpt: locked/run cannot be made.*choose another place with --out", last_line(tmp_path))
    assert "step" not in (tmp_path / "said").read_text()


WRITERS = {
    "checkpoint": lambda out: save(Run(out), 3),
    "small file": lambda out: replace_file(out.with_name("best.json"), b"{}"),
    "export": lambda out: write_folder(out, {"a.json": lambda path: path.write_text("{}")}, 2),
    "tokenizer": lambda out: save_tokenizer(build_tokenizer("byte", lambda: iter(())), out.with_name("tokenizer.json")),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_quota_is_a_full_disk(tmp_path, monkeypatch, kind, number):
    def full(*some):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    room = r"[\d,]+ bytes are needed, [\d,]+ are free; make room"
    with pytest.raises(MachineError, match=rf"could not be written \({os.strerror(number)}\): (about )?{room}"):
        WRITERS[kind](tmp_path / "out")
    assert all(path.is_dir() for path in tmp_path.rglob("*"))
