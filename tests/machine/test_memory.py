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
print([faults() for _ in range(9)][-1])
"""


def test_memory_that_was_freed_is_used_again():
    """40 MB are 9,766 pages; where the heap is cut in pieces, it takes some rounds to find a place."""
    if sys.platform != "linux":
        pytest.skip("only glibc can be told to")

    def at_last(*arguments):
        done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
        if done.stderr.startswith("only glibc"):
            pytest.skip(done.stderr)
        return int(done.stdout)

    assert at_last("keep") < 100
    assert at_last() > 1000
