"""Progress of work before training: a bar in a terminal, a line a stage elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn


class PlainConsole(Console):
    """On standard error, so that results on standard output can be piped on. Where its reader has gone, rich would end the
    process; that is for the caller to say."""

    def __init__(self) -> None:
        super().__init__(file=sys.stderr)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError("nobody reads this any more")


class PreparationDisplay:
    def __init__(self) -> None:
        self.console = PlainConsole()
        self.stage = ""
        self.bar: Progress | None = None
        self.task = TaskID(0)

    @property
    def is_live(self) -> bool:
        """Whether lines that were printed can be drawn over: a terminal, and none that calls itself dumb."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_bar()

    def on_prepare(self, stage: str, share: float) -> None:
        if not self.is_live:
            if stage != self.stage:
                print(f"{stage} ...", file=sys.stderr, flush=True)
        else:
            if self.bar is None:
                columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
                self.bar = Progress(*columns, console=self.console, transient=True)
                self.bar.start()
                self.task = self.bar.add_task(stage, total=1.0)
            if stage != self.stage:
                self.bar.reset(self.task, description=stage, total=1.0)
            self.bar.update(self.task, completed=share)
        self.stage = stage

    def close_bar(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
