"""What has to be quick."""

import time

from ..command import glassgpt


def test_help_is_quick(tmp_path):
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        assert glassgpt(tmp_path, "--help")[0] == 0
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.3
