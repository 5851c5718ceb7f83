"""No file can hurt: a quick run of fuzz.py."""

import sys

import pytest

from .fuzz import TARGETS, fuzz

CASES = 6 * len(TARGETS)


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits the memory of each child")
def test_damaged_and_hostile_files_give_one_line_and_do_nothing_else():
    summary = fuzz(CASES, seed=1)
    assert summary["faults"] == []
    assert set(summary["by target"]) == {target.folder for target in TARGETS}
    assert set(summary["exit codes"]) <= {"0", "1", "2"}
    assert summary["exit codes"]["2"] > CASES / 3  # else the damage goes unnoticed, and the cases are worth nothing
    assert summary["exit codes"]["0"] > CASES / 20  # and here it stands before the parser
