"""Corpora larger than memory: what preparation holds does not grow with the text."""

import os
import subprocess
import sys

import pytest

PREPARE = "import sys; from glassgpt.data import prepare; prepare([sys.argv[1]], sys.argv[2], sys.argv[3])"


def peak_memory(text, out, tokenizer):
    """Most bytes of main memory that a process of its own held while it prepared `text`."""
    process = subprocess.Popen([sys.executable, "-c", PREPARE, text, out, tokenizer])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="peak memory is told by wait4")
@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_memory_does_not_grow_with_the_text(tmp_path, tokenizer):
    line = b"All work and no play makes %d a dull boy, said the %d of them.\n"
    million = b"".join(line % (i * 7919 % 10007, i % 13) for i in range(17_000))[:1_000_000]
    peaks = []
    for size in (80, 400):  # more than what counting keeps (64 MB), then as much more as can be waited for
        text = tmp_path / f"{size}.txt"
        with text.open("wb") as file:
            for _ in range(size):
                file.write(million)
        peaks.append(peak_memory(text, tmp_path / f"out-{size}", tokenizer))
        text.unlink()
    assert peaks[1] - peaks[0] < 0.5 * (400 - 80) * 1e6, peaks
