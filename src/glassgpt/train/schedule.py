"""The learning rate as a pure function of the step: a linear rise, then a fall."""

import math
from collections.abc import Callable

from glassgpt.config import TrainConfig

# Each maps progress, from 0 (warmup is over) to 1 (the last step), to a height: 1 is the highest rate, 0 is decay_to of it.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Learning rate of update `step`, counted from 0.

    Warmup never depends on max_steps, so that the first steps of a run are the same however long it will be. Where the
    schedule falls, the last step, max_steps - 1, has exactly decay_to times the highest rate if two steps or more follow the
    warmup; a single one has the highest, and a run that ends within its warmup ends on the way up.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - 1 - config.warmup_steps)
    share = SCHEDULES[config.schedule](min(1.0, progress))
    return config.learning_rate * (config.decay_to + (1 - config.decay_to) * share)
