"""The learning rate as a pure function of the step: a linear rise, then what the schedule says."""

import math
from collections.abc import Callable
from typing import NamedTuple

from glassgpt.config import TrainConfig

FALL_SHARE = 0.4  # of the steps after warmup, in wsd; Hägele et al. 2024 (2405.18392) find little beyond a fifth


class Schedule(NamedTuple):
    """`height` maps progress, from 0 (warmup is over) to 1 (the last step), to a height: 1 is the highest rate, 0 is
    decay_to of it. Up to progress `level_until` the height is 1, however long the run will be."""

    height: Callable[[float], float]
    level_until: float


SCHEDULES: dict[str, Schedule] = {
    "cosine": Schedule(lambda progress: 0.5 * (1 + math.cos(math.pi * progress)), 0.0),
    # Warmup, stable, decay: Hu et al. 2024 (2404.06395), whose decay is exponential; linear as in Hägele et al.
    "wsd": Schedule(lambda progress: min(1.0, (1 - progress) / FALL_SHARE), 1 - FALL_SHARE),
    "linear": Schedule(lambda progress: 1 - progress, 0.0),
    "constant": Schedule(lambda progress: 1.0, 1.0),
}


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Learning rate of update `step`, counted from 0.

    Warmup never depends on max_steps, so that the first steps of a run are the same however long it will be. Where the
    schedule falls, the last step, max_steps - 1, has exactly decay_to times the highest rate if two steps or more follow the
    warmup; a single one has the highest, and a run that ends within its warmup ends on the way up. Without max_steps, which
    is found out under `minutes`, the rate stays at its highest.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = 1.0
    if config.max_steps:
        progress = (step - config.warmup_steps) / max(1, config.max_steps - 1 - config.warmup_steps)
        share = SCHEDULES[config.schedule].height(min(1.0, progress))
    return config.learning_rate * (config.decay_to + (1 - config.decay_to) * share)


def fewest_steps(step: int, config: TrainConfig) -> int:
    """The shortest max_steps that leaves the rates of the `step` updates already done as they were."""
    level_until = SCHEDULES[config.schedule].level_until
    after_warmup = step - config.warmup_steps
    if after_warmup <= 0 or not level_until:
        return step
    return config.warmup_steps + 1 + math.ceil(after_warmup / level_until)
