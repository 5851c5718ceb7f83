"""Preparation that is killed, or finds no room: never half a folder, and the next one gives the same bytes."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from glassgpt.data import load_data, prepare
from glassgpt.errors import DataError

from ..command import SIZES, glassgpt, limited, start
from .conftest import words

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits and kills of another kind")

PREPARE = "import sys; from glassgpt.data import prepare_cached; print(prepare_cached(['words.txt'], 'bpe', 600).path)"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "words.txt").write_text(words(0.4), encoding="utf-8")
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_at_random(process, seconds):
    """True where it was still working."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(random.uniform(0.05, seconds))
    working = process.poll() is None
    process.kill()
    process.communicate()
    return working


def test_killed_at_random_moments_it_is_done_again_with_the_same_bytes(folder):
    """`prepare` to a named folder and the one inside `train`, which works in the cache."""
    began = time.monotonic()
    assert glassgpt(folder, "prepare", "words.txt", "--vocab-size", 600, "--out", "whole")[0] == 0
    seconds = time.monotonic() - began
    whole = contents(folder / "whole")
    for _ in range(4):
        process = start(folder, "prepare", "words.txt", "--vocab-size", 600, "--out", "killed")
        if kill_at_random(process, seconds):
            if (folder / "killed").exists():  # nothing but the summary was missing
                assert contents(folder / "killed") == whole
                shutil.rmtree(folder / "killed")
            refused = glassgpt(folder, "train", "killed")
            assert refused[0] == 2 and refused[2].splitlines()[-1].startswith("glassgpt: killed does not exist")
            break
    shutil.rmtree(folder / "killed", ignore_errors=True)
    assert glassgpt(folder, "prepare", "words.txt", "--vocab-size", 600, "--out", "killed")[0] == 0
    assert contents(folder / "killed") == whole

    cached = folder / "cache" / "data"
    for _ in range(4):
        kill_at_random(start(folder, program=("-c", PREPARE)), seconds)
        for entry in cached.glob("[!.]*") if cached.exists() else ():
            assert contents(entry) == whole
    code, out, err = glassgpt(folder, program=("-c", PREPARE))
    assert code == 0, err
    assert contents(cached / out.strip().rpartition(os.sep)[2]) == whole


def test_what_a_kill_left_is_no_text_and_no_data(folder):
    """Its parts, under whatever name a person gives them."""
    process = start(folder, "prepare", "words.txt", "--out", "killed")
    for line in process.stderr:
        if "counting" in line:
            process.kill()
    process.communicate()
    (left,) = folder.glob(".killed.*.partial")
    assert (left / "train.bin").stat().st_size and not (left / "meta.json").exists()
    left.rename(folder / "taken")
    with pytest.raises(DataError, match=r"there is no meta.json in it; run `glassgpt prepare` first"):
        load_data(folder / "taken")
    code, _, err = glassgpt(folder, "train", "taken", *SIZES, "--max-steps", 1)
    assert code == 2 and re.fullmatch(r"glassgpt: .*taken.*", err.splitlines()[-1]), err
    assert not (folder / "runs").exists()


ROOM = re.compile(r"([\d,]+) bytes are needed, ([\d,]+) are free")


def told(err, where, advice="raise that limit"):
    """(needed, free) in the one line that says that there was no room in `where`."""
    *progress, line = err.splitlines()
    assert line.startswith("glassgpt: ") and where in line and advice in line, err
    assert not [p for p in progress if not p.endswith(" ...")], err
    found = ROOM.search(line)
    assert found, line
    return [int(number.replace(",", "")) for number in found.groups()]


def test_files_that_may_not_grow_are_one_line_and_leave_nothing(folder):
    code, _, err = glassgpt(
        folder, "prepare", "words.txt", "--tokenizer", "byte", "--out", "out", preexec_fn=limited(RLIMIT_FSIZE=50_000)
    )
    assert code == 1, err
    needed, free = told(err, "out could not be written")
    assert free == pytest.approx(shutil.disk_usage(folder).free, rel=0.2)
    assert needed == 2 * (folder / "words.txt").stat().st_size
    assert not [*folder.glob("*out*"), *folder.glob(".out*"), *(folder / "tmp").iterdir()]


def test_the_same_in_the_cache(folder):
    code, _, err = glassgpt(
        folder, "train", "words.txt", *SIZES, "--tokenizer", "byte", preexec_fn=limited(RLIMIT_FSIZE=50_000)
    )
    assert code == 1, err
    told(err, str(folder / "cache" / "data"))
    assert "GLASSGPT_CACHE" in err and [*(folder / "cache" / "data").iterdir()] == [] and not (folder / "runs").exists()


def test_where_nothing_is_known_of_what_is_needed_the_free_bytes_are_said(folder):
    """In the middle of tokenizer.json."""
    code, _, err = glassgpt(folder, "prepare", "words.txt", "--out", "out", preexec_fn=limited(RLIMIT_FSIZE=3_000))
    assert code == 1, err
    line = err.splitlines()[-1]
    assert re.fullmatch(
        r"glassgpt: out could not be written \(.*\): [\d,]+ bytes are free; raise that limit, .*", line
    ), err
    assert not [*folder.glob("*out*"), *folder.glob(".out*")]


def test_a_disk_that_is_full_is_one_line_and_enough_room_mends_it(folder, small_disk):
    (small_disk / "other").write_bytes(bytes(shutil.disk_usage(small_disk).free - 148_000))
    code, _, err = glassgpt(folder, "prepare", "words.txt", "--out", small_disk / "out")
    assert code == 1, err
    needed, free = told(err, str(small_disk / "out"), "make room")
    assert free < 150_000 and needed > 200_000
    assert [path.name for path in small_disk.iterdir()] == ["other"]
    (small_disk / "other").unlink()
    assert glassgpt(folder, "prepare", "words.txt", "--out", small_disk / "out")[0] == 0
    written = sum(len(content) for content in contents(small_disk / "out").values())
    assert 0.3 * written < needed < 3 * written  # what was said was about right
    assert (
        contents(prepare([str(folder / "words.txt")], folder / "out", "bpe").path).keys()
        == contents(small_disk / "out").keys()
    )


def test_a_cache_that_may_not_be_written_is_one_line(folder, locked):
    code, _, err = glassgpt(folder, "train", "words.txt", *SIZES, "--max-steps", 1, GLASSGPT_CACHE=str(locked))
    assert code == 1, err
    line = err.splitlines()[-1]
    assert line.startswith("glassgpt: ") and "could not be written" in line and "GLASSGPT_CACHE" in line
    assert "Traceback" not in err and not (folder / "runs").exists()


def test_a_kill_and_a_signal_together_leave_a_whole_folder_alone(folder):
    """Another preparation of the same text never harms the one that is there."""
    code, out, err = glassgpt(folder, program=("-c", PREPARE))
    assert code == 0, err
    whole = contents(folder / out.strip())
    process = start(folder, "prepare", "words.txt", "--out", out.strip())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert contents(folder / out.strip()) == whole
