import subprocess
import sys

import pytest

from glassgpt.machine.memory import keep_freed_memory

PROGRAM = """
import resource, sys, torch
from glassgpt.machine import keep_freed_memory
if sys.argv[1:]:
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10, 1_000_000).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(9)][-1])
"""


def test_memory_that_was_freed_is_used_again():
    """40 MB are 9,766 pages; where the heap is cut in pieces, it takes some rounds to find a place."""
    pytest.importorskip("resource")
    if not (sys.platform == "linux" and keep_freed_memory()):
        pytest.skip("only glibc can be told to")

    def at_last(*arguments):
        command = [sys.executable, "-c", PROGRAM, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert at_last("keep") < 100
    assert at_last() > 1000
