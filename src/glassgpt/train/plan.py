"""What only a measurement can settle: how many steps fit into the time, and how often to look up from them."""

import math
from typing import NamedTuple

from glassgpt.config import TrainConfig

# Validation may take this share of the time; a run that mostly looks at itself learns little.
EVALUATION_SHARE = 0.06
# Somebody who watches wants news, and somebody whose machine dies wants to have lost little.
LONGEST_WITHOUT_EVALUATION = 900.0
LONGEST_WITHOUT_CHECKPOINT = 300.0
FEWEST_EVALUATIONS = 5
# What the loop cannot see coming: the plot, the last files, and a machine that slows down a little.
SECONDS_TO_FINISH = 3.0
SLOWDOWN = 1.03


class Measured(NamedTuple):
    """Seconds that one of each takes."""

    step: float
    evaluation: float
    sample: float
    save: float


def plan(config: TrainConfig, *, step: int, seconds_left: float | None, measured: Measured) -> TrainConfig:
    """`config` with max_steps, eval_every, save_every and sample_every settled, `step` updates being done.

    `seconds_left` is what is left of `minutes`, None where max_steps was given.
    """
    step_seconds = measured.step * SLOWDOWN
    time = (
        (config.max_steps - step) * step_seconds if seconds_left is None else max(0.0, seconds_left - SECONDS_TO_FINISH)
    )
    most = max(FEWEST_EVALUATIONS, math.ceil(time / LONGEST_WITHOUT_EVALUATION))
    evaluations = min(most, max(1, int(EVALUATION_SHARE * time / max(measured.evaluation, 1e-9))))
    looking_up = measured.evaluation + measured.sample + measured.save
    max_steps = config.max_steps
    if seconds_left is not None:
        if config.eval_every:
            # One look-up every eval_every steps, one at the end, and one more as the steps done so far may be nearly due.
            steps = int((time - 2 * looking_up) / (step_seconds + looking_up / config.eval_every))
        else:
            steps = int((time - evaluations * looking_up) / step_seconds)
        max_steps = step + max(0, steps)
    eval_every = config.eval_every or max(1, math.ceil(max_steps / evaluations))
    save_every = config.save_every or min(eval_every, max(1, int(LONGEST_WITHOUT_CHECKPOINT / step_seconds)))
    settled = {
        "max_steps": max_steps,
        "minutes": 0.0,
        "eval_every": eval_every,
        "save_every": save_every,
        "sample_every": config.sample_every or eval_every,
    }
    return TrainConfig(**{**vars(config), **settled})
