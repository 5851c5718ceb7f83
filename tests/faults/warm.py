"""Real processes without their second of loading torch: one that has loaded it forks a child for each command line.

Run as a module it is that process: a job a line on standard input, and for each job two lines back, the child's number when it
begins and its exit code when it has ended.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..command import heed_signals

HOME = Path(__file__).resolve().parent.parent.parent


class Warm:
    """Use as a context manager. One command at a time: `begin`, then `end`, with whatever one does to it in between."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=HOME, env=environment, preexec_fn=heed_signals,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def begin(self, folder: Path, *arguments: object, **job: Any) -> int:
        """The number of the process that carries out `glassgpt ARGUMENTS` in `folder`, where its cache is and its output goes
        to the file `said`. `sync_seconds`: what it waits at every sync of a save, and while it saves, the file `saving`
        begins with 1."""
        (folder / "saving").write_bytes(b"0")
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"folder": str(folder), "arguments": [*map(str, arguments)], **job}) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """Its exit code, minus the signal that ended it."""
        return int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def serve() -> None:
    import glassgpt.cli.display
    import glassgpt.cli.resume
    import glassgpt.cli.train
    import glassgpt.train  # noqa: F401 - to have it loaded

    answers = os.dup(1)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            os.close(answers)
            carry_out(**job)
        os.write(answers, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def carry_out(folder: str, arguments: list[str], sync_seconds: float = 0.0) -> None:
    from glassgpt.checkpoint import commit
    from glassgpt.cli import main
    from glassgpt.train import saver

    os.chdir(folder)
    os.environ["GLASSGPT_CACHE"] = str(Path(folder, "cache"))
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, said), (2, said)):
        os.dup2(source, target)
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
    try:
        main(arguments)
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(99)


if __name__ == "__main__":
    serve()
