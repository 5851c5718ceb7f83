import os

import pytest

from .flat import growth


@pytest.mark.skipif(os.name == "nt", reason="open files are counted in another way there")
def test_a_long_run_holds_on_to_nothing(tmp_path):
    """2,000 steps with 80 checkpoints, 40 validations and 8 samples. What is allowed is the allocator's restlessness."""
    memory, files, threads = growth(tmp_path, 2000)
    assert memory < 6e6 and files == 0 and abs(threads) <= 1
