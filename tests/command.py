"""The command as a process of its own, in a folder, and waiting for what it does."""

import atexit
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .warm import TIMEOUT, Warm

SIZES = [
    "--context-length", "16", "--n-layer", "1", "--n-head", "2", "--n-embd", "16",
    "--batch-size", "4", "--warmup-steps", "2", "--precision", "float32", "--threads", "1",
]  # fmt: skip
TINY = ["--tokenizer", "char", *SIZES]
GOLDEN = Path(__file__).resolve().parent / "golden" / "format-1"  # runs of every kind, as an earlier version left them
SONG = "row, row, row your boat,\ngently down the stream.\n" * 60


def heed_signals():
    """What a shell runs in the background ignores Ctrl-C, and under nohup a closed terminal; so would its children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def limited(**limits):
    """As `preexec_fn`: what the process may use, by the names of `resource`. Files that may not grow are the same to it as a
    full disk, and can be had everywhere."""
    resource = pytest.importorskip("resource")

    def set_limits():
        heed_signals()
        for name, limit in limits.items():
            resource.setrlimit(getattr(resource, name), (limit, limit))

    return set_limits


def start(folder, *arguments, program=("-m", "glassgpt"), preexec_fn=heed_signals, **environment):
    """In `folder`, with a cache below it; a folder `tmp` that is there takes the temporary files."""
    own = {"GLASSGPT_CACHE": str(folder / "cache"), "PYTHONUTF8": "1", "NO_COLOR": "1"}
    if (folder / "tmp").is_dir():
        own["TMPDIR"] = str(folder / "tmp")
    own["PYTHONUNBUFFERED"] = ""  # as a person has it: what is printed waits to be flushed
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        cwd=folder, env=os.environ | own | environment, text=True, encoding="utf-8",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=None if os.name == "nt" else preexec_fn,
    )  # fmt: skip


@functools.cache
def warm():
    started = Warm().__enter__()
    atexit.register(started.__exit__, None, None, None)
    return started


def glassgpt(folder, *arguments, stdin="", **more):
    """Exit code, output and errors of the command, once it has ended. What `start` needs `more` for is a process begun anew;
    others are forks of one that has loaded torch."""
    if not more and sys.platform == "linux":  # elsewhere a fork after torch was loaded is not safe
        return warm().run(folder, *arguments, stdin=stdin)
    process = start(folder, *arguments, **more)
    out, err = process.communicate(stdin, timeout=TIMEOUT)
    return process.returncode, out, err


def refused(folder, *arguments, code=2, **options):
    """The one line on standard error of a command that is refused."""
    return line_of(*glassgpt(folder, *arguments, **options), code)


def line_of(returned, out, err, code):
    assert returned == code, err
    assert out == ""
    *progress, line = err.splitlines()
    assert line.startswith("glassgpt: ") and not any(piece.startswith(("glassgpt", "Trace")) for piece in progress), err
    return line.removeprefix("glassgpt: ")


def wait_for(condition, process=None, seconds=60.0):
    """Whether it came true in time; a `process` that is to bring it about has to live until then."""
    until = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def wait_for_line(process, word):
    """In what it says on standard error."""
    assert any(word in line for line in process.stderr), f"{word} never came"
