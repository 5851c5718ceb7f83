import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys, torch
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages, where the system would take them: pages are counted
from glassgpt.machine import keep_freed_memory
if sys.argv[1:]:
    if not keep_freed_memory():
        sys.exit("only glibc can be told to")
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10, 1_000_000).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(sorted(faults() for _ in range(30))[15])
"""


def test_memory_that_was_freed_is_used_again():
    """40 MB are 9,766 pages; where the heap is cut in pieces, it takes some rounds to find a place, of 30 a few."""
    if sys.platform != "linux":
        pytest.skip("only glibc can be told to")

    def at_last(*arguments):
        done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
        if done.stderr.startswith("only glibc"):
            pytest.skip(done.stderr)
        return int(done.stdout)

    assert at_last("keep") < 100
    assert at_last() > 1000


def test_what_was_kept_is_given_back_when_told_to():
    program = """
import psutil, sys, torch
from glassgpt.machine import give_back_freed_memory, keep_freed_memory
if not keep_freed_memory():
    sys.exit("only glibc can be told to")
def now(): return psutil.Process().memory_info().rss >> 20
def pieces():
    blocks = [torch.ones(1_000_000) for _ in range(100)]
    return blocks[::10]  # so that what is freed lies between them
kept = pieces()
before = now(); give_back_freed_memory(); print(before - now(), len(kept))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.stderr.startswith("only glibc"):
        pytest.skip(done.stderr)
    given_back, still_held = map(int, done.stdout.split())
    assert still_held == 10 and 250 < given_back < 380, done  # of 381 MiB, 38 are in use
