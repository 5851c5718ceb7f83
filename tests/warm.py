"""Real processes without their second of loading torch: one that has loaded it forks a child for each command line.

Run as a module it is that process: a job a line on standard input, and for each job two lines back, the child's number when it
begins and its exit code when it has ended.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HOME = Path(__file__).resolve().parent.parent
TIMEOUT = 120  # seconds


class Warm:
    """Use as a context manager. One command at a time: `begin`, then `end`, with whatever one does to it in between; or
    `run`."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=HOME, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def begin(self, folder: Path, *arguments: object, **job: Any) -> int:
        """The number of the process that carries out `glassgpt ARGUMENTS` in `folder`, where its cache is and, unless `job`
        names other files, its output goes to `said`. `sync_seconds`: what it waits at every sync of a save, and while it
        saves, the file `saving` begins with 1."""
        if "sync_seconds" in job:
            (folder / "saving").write_bytes(b"0")
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"folder": str(folder), "arguments": [*map(str, arguments)], **job}) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """Its exit code, minus the signal that ended it."""
        return int(self._line())

    def run(self, folder: Path, *arguments: object, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, output and errors of a command."""
        with tempfile.TemporaryDirectory() as place:
            files = {name: Path(place, name) for name in ("stdin", "out", "err")}
            files["stdin"].write_text(stdin, encoding="utf-8")
            child = self.begin(folder, *arguments, **{name: str(file) for name, file in files.items()})
            deadline = threading.Timer(TIMEOUT, os.kill, (child, signal.SIGKILL))
            deadline.start()
            code = self.end()
            deadline.cancel()
            return code, files["out"].read_text("utf-8"), files["err"].read_text("utf-8")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def serve() -> None:
    import glassgpt.cli.display
    import glassgpt.cli.resume
    import glassgpt.cli.train
    import glassgpt.train  # noqa: F401 - to have it loaded

    jobs, answers = os.fdopen(os.dup(0)), os.dup(1)
    os.set_inheritable(answers, False)
    for line in jobs:
        job = json.loads(line)
        child = os.fork()
        if not child:
            os.close(answers)
            carry_out(**job)
        os.write(answers, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def carry_out(
    folder: str, arguments: list[str], stdin: str = os.devnull, out: str = "said", err: str = "",
    sync_seconds: float | None = None,
) -> None:  # fmt: skip
    from glassgpt.__main__ import main

    os.chdir(folder)
    os.environ["GLASSGPT_CACHE"] = str(Path(folder, "cache"))
    if Path("tmp").is_dir():
        os.environ["TMPDIR"] = str(Path(folder, "tmp"))
    for number in (signal.SIGINT, signal.SIGHUP):  # a shell has what it runs in the background ignore them
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(stdin, os.O_RDONLY), 0)
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if err else 1, 2)
    if sync_seconds is not None:
        slow_down(sync_seconds)
    sys.argv = ["glassgpt", *arguments]
    try:
        main()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(99)


def slow_down(sync_seconds: float) -> None:
    from glassgpt.checkpoint import commit
    from glassgpt.train import saver

    mark = os.open("saving", os.O_WRONLY)
    real_sync, real_save = commit.sync, saver.save_checkpoint

    def sync(path: Path) -> None:
        time.sleep(sync_seconds)
        real_sync(path)

    def save_checkpoint(*some: Any, **more: Any) -> None:
        os.pwrite(mark, b"1", 0)
        real_save(*some, **more)
        os.pwrite(mark, b"0", 0)

    commit.sync, saver.save_checkpoint = sync, save_checkpoint


if __name__ == "__main__":
    serve()
