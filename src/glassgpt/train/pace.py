"""How fast a run is, measured while it trains, and what is settled from that: the intervals once the speed of the first steps
is known, max_steps under `minutes` then or later (train/plan.py)."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from itertools import islice

import torch

from glassgpt.config import TrainConfig
from glassgpt.data import Batch, DataFolder, validation_batches, validation_tokens
from glassgpt.train.evaluate import TOKENS_AT_ONCE, score
from glassgpt.train.plan import Measured, length_share, plan
from glassgpt.train.replicas import Replicas
from glassgpt.train.schedule import fewest_steps

# The speed is measured over at least so many steps and seconds, and over this share of the time that was given, so that
# a long run is planned from a long look; but where steps are slow, over no more than the second share or the minute.
MEASURED_STEPS, MEASURED_SECONDS, MEASURED_SHARE = 10, 1.0, 0.03
LONGEST_MEASURED_SHARE, LONGEST_MEASURED_SECONDS = 0.1, 60.0


class Pace:
    """Of one sitting. `deadline` (time.monotonic) is when the run has to be over, where `minutes` was asked for."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.begun = 0  # the step that this sitting began at
        self.step_times: deque[float] = deque(maxlen=100)
        self.steps, self.seconds = 0, 0.0
        self.sample_seconds, self.save_seconds = 0.0, 0.0

    def add(self, seconds: float) -> None:
        """The time that one more step took."""
        self.step_times.append(seconds)
        self.steps, self.seconds = self.steps + 1, self.seconds + seconds

    @property
    def step_seconds(self) -> float:
        """Of a step by now; the median, because a noisy machine only ever adds time."""
        return statistics.median(list(self.step_times)[-20:])

    def plan_is_due(self, train: TrainConfig, step: int) -> bool:
        if not (train.eval_every and train.save_every and train.sample_every):
            return self._is_measured(train, step)
        return bool(train.minutes) and self._length_is_due(train, step)

    def settle(
        self, train: TrainConfig, step: int, evaluation_seconds: Callable[[], float]
    ) -> tuple[TrainConfig, str | None]:
        """What is due of the plan, and in words where the time is too short for a run worth the name."""
        fix_length = not train.minutes or self._length_is_due(train, step)
        times = list(self.step_times)
        steps = times[2:] or times  # the first ones also pay for memory and kernels
        # A number of steps that is fixed late is fixed from all of them: a moment's load then counts as the moment it was.
        late = fix_length and waits_for_length(train)
        step_seconds = self.seconds / self.steps if late else statistics.median(steps)
        measured = Measured(step_seconds, evaluation_seconds(), self.sample_seconds, self.save_seconds)
        seconds_left = self.deadline - time.monotonic() if train.minutes else None
        settled = plan(
            train, step=step, begun=self.begun, seconds_left=seconds_left, measured=measured, fix_length=fix_length
        )
        shortest = max(fewest_steps(step, train), 2 * train.warmup_steps)
        if not (train.minutes and fix_length and settled.max_steps <= shortest):
            return settled, None
        return settled, (
            f"the time is short: a step takes {measured.step:.2g} s and a validation {measured.evaluation:.2g} s, so "
            f"{settled.max_steps} steps are all that fits; give more minutes, a smaller model or less text"
        )

    def _is_measured(self, train: TrainConfig, step: int) -> bool:
        time_given = 60 * train.minutes
        enough = max(MEASURED_SECONDS, MEASURED_SHARE * time_given)
        longest = LONGEST_MEASURED_SHARE * time_given or LONGEST_MEASURED_SECONDS
        # The rise of the learning rate does not depend on max_steps, an early fall does: the plan has to stand by then.
        latest = math.inf if waits_for_length(train) else train.warmup_steps if train.minutes else train.max_steps
        return (self.steps >= MEASURED_STEPS and self.seconds >= enough) or self.seconds >= longest or step >= latest

    def _length_is_due(self, train: TrainConfig, step: int) -> bool:
        due = self.deadline - (1 - length_share(train.schedule)) * 60 * train.minutes
        return self._is_measured(train, step) and (not waits_for_length(train) or time.monotonic() >= due)


def waits_for_length(train: TrainConfig) -> bool:
    return bool(train.minutes and length_share(train.schedule))


def evaluation_seconds(
    replicas: Replicas, data: DataFolder, context_length: int, device: torch.device, precision: str
) -> float:
    """What a validation takes, measured on a piece of the validation text."""
    batches = validation_batches(data, context_length, TOKENS_AT_ONCE)
    first, piece = next(batches), list(islice(batches, max(1, replicas.count - 1)))
    score(replicas, [Batch(first.tokens[:1], first.targets[:1])], device, precision)
    before = time.perf_counter()
    score(replicas, [first, *piece], device, precision)
    measured = sum(batch.tokens.numel() for batch in [first, *piece])
    whole = max(measured, validation_tokens(data, context_length))
    return (time.perf_counter() - before) * whole / measured
