"""The command as a process that is disturbed, and what must not be left of it."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TINY = [
    "--context-length", "16", "--n-layer", "1", "--n-head", "2", "--n-embd", "16",
    "--batch-size", "4", "--warmup-steps", "2", "--precision", "float32", "--threads", "1",
]  # fmt: skip


def heed_signals():
    """What a shell runs in the background ignores Ctrl-C, and so would its children."""
    for name in ("SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def start(folder, *arguments, program=("-m", "glassgpt"), preexec_fn=heed_signals, **environment):
    """In `folder`, with a cache and a place for temporary files below it."""
    (folder / "tmp").mkdir(exist_ok=True)
    own = {"GLASSGPT_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp"), "PYTHONUTF8": "1", "NO_COLOR": "1"}
    own["PYTHONUNBUFFERED"] = ""  # as a person has it: what is printed waits to be flushed
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        cwd=folder, env=os.environ | own | environment, text=True, encoding="utf-8",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=None if os.name == "nt" else preexec_fn,
    )  # fmt: skip


def run(folder, *arguments, **more):
    process = start(folder, *arguments, **more)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def files_below(folder):
    """Every file and folder, but for those that torch keeps for itself."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in names if "torchinductor" not in name}


def words(megabytes):
    """Text with many different words, so that a vocabulary takes its time."""
    line = " ".join(f"{chr(97 + i % 26)}{i * 7919 % 10007:x}{chr(98 + i % 23)}" for i in range(20_000)) + "\n"
    return line * round(megabytes * 1e6 / len(line))


def writable(folder: Path) -> bool:
    """Whether rights hold nobody back here, as for root."""
    with tempfile.TemporaryDirectory(dir=folder) as locked:
        Path(locked).chmod(0o500)
        try:
            (Path(locked) / "file").touch()
        except PermissionError:
            return False
        return True
