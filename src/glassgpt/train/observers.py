"""Those who watch a run: the metrics file, and whatever display the caller brings. None of them touches the model."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glassgpt.checkpoint import Run
from glassgpt.config import RunConfig
from glassgpt.disk import DiskError, as_argument
from glassgpt.errors import CheckpointError, MachineError


class Observer:
    """Override what you want to see."""

    called = "an observer"  # in messages

    def on_message(self, text: str) -> None:
        """Something was decided or happened that a person should know, in one line."""

    def on_prepare(self, stage: str, share: float) -> None:
        """Work before the first step: what, and how much of it is done (0 to 1)."""

    def on_start(self, run: Run, config: RunConfig, step: int, deadline: float) -> None:
        """The loop is about to begin, or to go on, after `step` updates. `deadline` (time.monotonic) is when it has to be
        over, infinite unless the config says minutes."""

    def on_change(self, step: int, changes: dict[str, tuple[Any, Any]]) -> None:
        """From `step` on, settings differ from what the run was begun with: what each was, and what it is."""

    def on_plan(self, config: RunConfig) -> None:
        """What was open of the intervals and the number of steps is now known, or some of it (train/plan.py)."""

    def on_step(self, step: int, metrics: dict[str, Any]) -> None:
        """Update number `step` (the first is 1) is done: train_loss, learning_rate, grad_norm, tokens, seconds,
        tokens_per_second, which is that of the steps alone."""

    def on_fault(self, step: int, diagnosis: dict[str, Any]) -> None:
        """Something was wrong with update number `step` (train/watch.py), which is `skipped` or not."""

    def on_evaluation(self, step: int, metrics: dict[str, Any]) -> None:
        """val_loss, bits_per_byte, and best_val_loss so far."""

    def on_sample(self, step: int, text: str) -> None:
        """What the model writes by now."""

    def on_save(self, step: int, folder: Path) -> None:
        """A checkpoint was committed."""

    def on_end(self) -> None:
        """The loop is over, for whatever reason."""


def tell(observers: Sequence[Observer], message: str) -> None:
    tell_each(observers, "on_message", message)


def tell_each(observers: Sequence[Observer], event: str, *details: object) -> None:
    """Before the loop; whose terminal, pipe or disk is gone misses it."""
    for observer in observers:
        with suppress(OSError, ValueError):
            getattr(observer, event)(*details)


class Audience:
    """All who watch. `audience(event, ...)` tells them. Of `needed` ones a failure ends the run; nobody else can: whose
    terminal or disk is gone is left out from then on, and the others hear of it."""

    def __init__(self, needed: Sequence[Observer], others: Sequence[Observer]) -> None:
        self.needed, self.others = list(needed), list(others)

    def __call__(self, event: str, *details: object) -> None:
        for observer in self.needed:
            getattr(observer, event)(*details)
        for observer in tuple(self.others):
            try:
                getattr(observer, event)(*details)
            except Exception as error:
                if observer in self.others:  # not yet by the message about another one
                    self.others.remove(observer)
                    self("on_message", f"{observer.called} cannot go on ({error}); training does")


class MetricsFile(Observer):
    """metrics.jsonl: one JSON object a line, the source of truth for every plot."""

    def __init__(self, run: Run, log_every: int) -> None:
        self.path, self.log_every = run.metrics_file, log_every
        self.max_steps = 0
        if self.path.exists() and not self.path.is_file():
            raise CheckpointError(f"{self.path} is no file, and no figures can be written to it; move it away")
        self.path.touch()

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise self._lost(error) from error

    def on_start(self, run: Run, config: RunConfig, step: int, deadline: float) -> None:
        self.max_steps = config.train.max_steps

    def on_plan(self, config: RunConfig) -> None:
        self.max_steps = config.train.max_steps

    def on_change(self, step: int, changes: dict[str, tuple[Any, Any]]) -> None:
        self._append(step, {"changed": changes})

    def on_step(self, step: int, metrics: dict[str, Any]) -> None:
        if step % self.log_every == 0 or step in (1, self.max_steps):
            self._append(step, metrics)

    def on_fault(self, step: int, diagnosis: dict[str, Any]) -> None:
        self._append(step, diagnosis)

    def on_evaluation(self, step: int, metrics: dict[str, Any]) -> None:
        self._append(step, metrics)

    def _append(self, step: int, metrics: dict[str, Any]) -> None:
        # JSON knows neither nan nor infinity; a step that had them is followed by what on_fault says of it.
        rounded = {
            name: _significant(value)
            for name, value in metrics.items()
            if not isinstance(value, float) or math.isfinite(value)
        }
        line = json.dumps({"step": step, **rounded}) + "\n"
        try:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(line)
        except OSError as error:
            raise self._lost(error, len(line)) from error

    def _lost(self, error: OSError, needed: int = 0) -> MachineError:
        problem = DiskError(self.path, error, needed)
        return MachineError(f"{problem}, then go on with: glassgpt resume {as_argument(self.path.parent)}")


class SampleFiles(Observer):
    """samples/step-00000300.txt: the model's writing over time."""

    called = "the folder of samples"

    def __init__(self, run: Run) -> None:
        self.folder = run.samples_folder

    def on_sample(self, step: int, text: str) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"step-{step:08d}.txt").write_text(text, encoding="utf-8", newline="\n")


def _significant(value: Any) -> Any:
    """Eight significant digits: all that float32 has, and a file that can be read."""
    return float(f"{value:.8g}") if isinstance(value, float) else value
