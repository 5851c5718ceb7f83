"""How a command ends when nobody disturbs it (signals.py); when somebody does: faults/test_signals_before_training.py."""

import subprocess
import sys

PROGRAM = """
import atexit, signal, sys
from glassgpt.__main__ import main

class Large:
    def __del__(self):
        print("taken apart")

large = Large()
atexit.register(lambda: (print("atexit"), signal.raise_signal(signal.SIGTERM), signal.raise_signal(signal.SIGINT)))
sys.argv = ["glassgpt", *sys.argv[1:]]
main()
"""


def glassgpt(*arguments):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_little_is_loaded_before_signals_are_heeded():
    """A Ctrl-C during that time is Python's own, with a traceback."""
    code = "import sys; before = {*sys.modules}; import glassgpt.signals; print(*({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pathlib", "subprocess", "shlex", "urllib", "inspect", "dataclasses"} & {*done.stdout.split()}


def test_what_was_loaded_is_not_taken_apart_and_what_was_printed_is_there():
    code, (version, end), err = glassgpt("--version")
    assert (code, end, err) == (0, "atexit", "") and version[0].isdigit()


def test_a_command_that_has_failed_cannot_seem_killed():
    code, lines, err = glassgpt("nothing")
    assert (code, lines) == (2, ["atexit"]) and err.startswith("glassgpt: ")
