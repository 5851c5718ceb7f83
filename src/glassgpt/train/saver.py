"""Checkpoints beside the training: a copy is taken while the loop waits, and written while it goes on.

The rule for a save that fails: it is reported and tried once more with the state of that moment; when that fails too, the run
ends, since whoever trains on without checkpoints has nothing to come back to. The first save of all has no second chance: a
folder that cannot be written to is found before the first hour and not after it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from glassgpt.checkpoint import Run, save_checkpoint
from glassgpt.disk import DiskError, as_argument, sync
from glassgpt.errors import GlassError, MachineError, is_out_of_memory
from glassgpt.machine import free_memory, is_freed_memory_kept

CPU = torch.device("cpu")


class Saver:
    """One checkpoint is written at a time. `tell` is how observers hear of it, always in the thread that trains."""

    def __init__(self, run: Run, tell: Callable[..., None]) -> None:
        self.run, self.tell = run, tell
        self.step = -1  # of the newest checkpoint that was begun, or that the run goes on from
        self.waited = 0.0  # seconds that training stood still for checkpoints
        self.failures = 1  # in a row; see above for the first save
        self.has_room = False  # for another copy, in memory that this process has kept
        self.thread: Thread | None = None
        self.problem: Exception | None = None
        self.left_over: str | None = None

    def went_on_from(self, step: int) -> None:
        self.step, self.failures = step, 0

    def save(self, step: int, keep: int, tensors: Mapping[str, Mapping[str, Tensor]], rest: Mapping[str, Any]) -> None:
        """Begin to commit a checkpoint. `tensors` and `rest` are the arguments of save_checkpoint; the newest `keep` stay.
        Where memory is too short for a copy, training waits instead."""
        with self._standing_still():
            self._finish()
            self.step = step
            size = sum(t.nbytes for group in tensors.values() for t in group.values())
            # Where freed memory is kept, what the first copy took is there for the next one.
            needed = size if self.has_room else 2 * size
            if step == 0 or needed > free_memory(CPU) or not self._write_beside(step, keep, tensors, rest):
                self._write(step, keep, {**rest, **tensors})
                self._settle()

    def _write_beside(
        self, step: int, keep: int, tensors: Mapping[str, Mapping[str, Tensor]], rest: Mapping[str, Any]
    ) -> bool:
        """Whether there was room for it after all: a limit on this process is not seen in what the machine has free."""
        try:
            copies = {name: copied(group) for name, group in tensors.items()}
            # A daemon: nothing waits for it after a second Ctrl-C.
            thread = Thread(target=self._write, args=(step, keep, {**rest, **copies}), daemon=True)
            thread.start()
        except (MemoryError, RuntimeError):
            return False
        self.thread, self.has_room = thread, is_freed_memory_kept()
        return True

    def look(self) -> None:
        """Hear whether what was being written is done. Raises what made two saves in a row fail."""
        if self.thread is not None and not self.thread.is_alive():
            self._finish()

    def finish(self) -> None:
        """Wait until nothing is being written, as `look` otherwise."""
        with self._standing_still():
            self._finish()

    @property
    def failed(self) -> bool:
        """Whether the newest save has failed, and nothing is being tried again."""
        return self.failures > 0 and self.thread is None

    @contextmanager
    def _standing_still(self) -> Iterator[None]:
        before = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - before

    def _finish(self) -> None:
        if self.thread is None:
            return
        while self.thread.is_alive():
            self.thread.join(0.2)  # not longer: a signal is not heard meanwhile everywhere
        self.thread = None
        self._settle()

    def _write(self, step: int, keep: int, contents: Mapping[str, Any]) -> None:
        try:
            require_finite(step, contents["weights"], self.run)
            self._sync_metrics()
            save_checkpoint(self.run.checkpoint_folder(step), **contents)
        except Exception as problem:  # handed to the thread that trains
            self.problem = MachineError("out of memory for a checkpoint") if is_out_of_memory(problem) else problem
            return
        try:
            self.left_over = self.run.prune(keep)
        except Exception as problem:  # the checkpoint is there, and that is what counts
            self.left_over = f"older checkpoints are not removed ({problem}); training goes on"

    def _sync_metrics(self) -> None:
        """The checkpoint says how much of them belongs to it."""
        try:
            sync(self.run.metrics_file)
        except OSError as error:
            raise DiskError(self.run.metrics_file, error) from error

    def _settle(self) -> None:
        problem, self.problem = self.problem, None
        if problem is None:
            self.failures = 0
            self.tell("on_save", self.step, self.run.checkpoint_folder(self.step))
            if self.left_over:
                self.tell("on_message", self.left_over)
            return
        self.failures += 1
        if not isinstance(problem, MachineError):
            raise problem
        if self.failures > 1:
            raise MachineError(
                f"{problem}, then go on with: glassgpt resume {as_argument(self.run.folder)}"
            ) from problem
        said = problem.short if isinstance(problem, DiskError) else str(problem)
        self.tell("on_message", f"{said}; trying once more")


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In the machine's own memory, whatever device they are on."""
    return {name: tensor.detach().to(CPU, copy=True) for name, tensor in tensors.items()}


def require_finite(step: int, weights: Mapping[str, Tensor], run: Run) -> None:
    """A step is checked before it is taken (train/watch.py), but a huge learning rate can still carry a weight away."""
    broken = next((name for name, weight in weights.items() if not weight.isfinite().all()), None)
    if broken:
        raise GlassError(
            f"after step {step} the weight {broken} is not finite, so that nothing was saved; lower the learning rate: "
            f"glassgpt resume {as_argument(run.folder)} --learning-rate RATE (under muon also --matrix-learning-rate RATE)"
        )
