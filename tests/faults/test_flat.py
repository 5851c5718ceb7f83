import os

import pytest

from .flat import growth


@pytest.mark.skipif(os.name == "nt", reason="open files are counted in another way there")
def test_a_long_run_holds_on_to_nothing(tmp_path):
    """1,000 steps with 40 checkpoints, 20 validations and 4 samples (bench/reliability.py: 2,000 steps). What is allowed is
    the allocator's restlessness."""
    memory, files, threads = growth(tmp_path, 1000)
    assert memory < 6e6 and files == 0 and abs(threads) <= 1
