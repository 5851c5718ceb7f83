"""What only a measurement can settle: how many steps fit into the time, and how often to look up from them."""

import math
from bisect import bisect_right
from dataclasses import replace
from typing import NamedTuple

from glassgpt.config import TrainConfig
from glassgpt.train.schedule import SCHEDULES, fewest_steps

# Validation and samples may take these shares of the time; a run that mostly looks at itself learns little.
EVALUATION_SHARE, SAMPLE_SHARE = 0.08, 0.04
# Somebody who watches wants news, and somebody whose machine dies wants to have lost little.
LONGEST_WITHOUT_EVALUATION = 900.0
LONGEST_WITHOUT_CHECKPOINT = 300.0
FEWEST_EVALUATIONS, SAMPLES = 5, 10
# What the loop cannot see coming: the plot, the last files, and a machine that slows down a little (less, the less of the
# run is still to come).
SECONDS_TO_FINISH = 3.0
SLOWDOWN = 0.08
# Where the learning rate stays level, max_steps is fixed only this share of the time before the rate depends on it.
AHEAD = 0.1


class Measured(NamedTuple):
    """Seconds that one of each takes."""

    step: float
    evaluation: float
    sample: float
    save: float


def length_share(schedule: str) -> float:
    """The share of the time after which max_steps is fixed; 0: as soon as the speed is known, since the rate falls at once."""
    return max(0.0, SCHEDULES[schedule].level_until - AHEAD)


def plan(
    config: TrainConfig,
    *,
    step: int,
    seconds_left: float | None,
    measured: Measured,
    begun: int = 0,
    fix_length: bool = True,
) -> TrainConfig:
    """`config` with eval_every, save_every and sample_every settled, and max_steps if `fix_length`, `step` updates being done,
    `begun` of them in earlier sittings.

    `seconds_left` is what is left of `minutes`, None where max_steps was given. A rerun, which knows from the start what is
    settled here, takes the same way: an interval is never shorter than the steps before it was settled, and the run never
    so short that the learning rate would have had to fall already.
    """
    coming = 1.0 if seconds_left is None else min(1.0, max(0.0, seconds_left) / (60 * config.minutes))
    step_seconds = measured.step * (1 + SLOWDOWN * coming)
    time = (
        (config.max_steps - step) * step_seconds if seconds_left is None else max(0.0, seconds_left - SECONDS_TO_FINISH)
    )
    most = max(FEWEST_EVALUATIONS, math.ceil(time / LONGEST_WITHOUT_EVALUATION))
    evaluations = times_that_fit(EVALUATION_SHARE * time, measured.evaluation, most)
    samples = times_that_fit(SAMPLE_SHARE * time, measured.sample, SAMPLES)
    max_steps = config.max_steps
    if seconds_left is not None:

        def seconds_until(last: int) -> float:
            evaluating = looks_until(last, step, config.eval_every, evaluations) * (measured.evaluation + measured.save)
            sampling = looks_until(last, step, config.sample_every, samples) * measured.sample
            return (last - step) * step_seconds + evaluating + sampling

        possible = range(step, step + 1 + int(time / step_seconds))
        fitting = bisect_right(possible, time, key=seconds_until)  # so many of them are over in time
        max_steps = max(possible[max(0, fitting - 1)], fewest_steps(step, config))
    first = max(1, step - begun)
    eval_every = config.eval_every or max(first, math.ceil((max_steps - begun) / evaluations))
    save_every = config.save_every or min(eval_every, max(first, int(LONGEST_WITHOUT_CHECKPOINT / step_seconds)))
    sample_every = config.sample_every or max(first, math.ceil((max_steps - begun) / samples))
    settled = replace(config, eval_every=eval_every, save_every=save_every, sample_every=sample_every)
    return replace(settled, max_steps=max_steps, minutes=0.0) if fix_length else settled


def times_that_fit(seconds: float, seconds_each: float, most: int) -> int:
    return min(most, max(1, int(seconds / max(seconds_each, 1e-9))))


def looks_until(last: int, step: int, every: int, planned: int) -> int:
    """How often a run that has done `step` steps looks up until its `last`: `planned` times, or every so many steps and at
    the end."""
    return math.ceil(last / every) - step // every if every else planned
