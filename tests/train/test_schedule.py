import math
from itertools import pairwise

import pytest

from glassgpt.config import TrainConfig
from glassgpt.train.schedule import SCHEDULES, learning_rate_at


def config(**settings):
    return TrainConfig(**{"max_steps": 47, "warmup_steps": 7, "learning_rate": 0.3, "decay_to": 0.2} | settings)


def test_warmup_rises_by_equal_parts_to_the_highest_rate():
    rates = [learning_rate_at(step, config()) for step in range(7)]
    assert rates == pytest.approx([0.3 * (step + 1) / 7 for step in range(7)])


def test_warmup_does_not_depend_on_how_long_the_run_will_be():
    short, long = config(max_steps=20), config(max_steps=90_000)
    assert [learning_rate_at(s, short) for s in range(7)] == [learning_rate_at(s, long) for s in range(7)]


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_fall_ends_at_its_share_on_the_last_step(name):
    rates = [learning_rate_at(step, config(schedule=name)) for step in range(47)]
    assert max(rates) == rates[6] == rates[7] == 0.3
    assert rates[-1] == 0.3 * 0.2  # exactly
    assert all(a > b for a, b in pairwise(rates[7:]))


def test_the_shapes():
    middle = 7 + 39 / 2  # half-way between the first step after warmup and the last
    assert learning_rate_at(7 + 13, config(schedule="linear")) == pytest.approx(0.3 * (0.2 + 0.8 * (1 - 13 / 39)))
    assert learning_rate_at(7 + 13, config()) == pytest.approx(0.3 * (0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 3))))
    assert learning_rate_at(int(middle), config(schedule="constant")) == 0.3


def test_no_warmup_begins_at_the_highest_rate_and_a_single_step_is_defined():
    assert learning_rate_at(0, config(warmup_steps=0)) == 0.3
    assert learning_rate_at(0, config(warmup_steps=0, max_steps=1)) == 0.3


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_two_steps_after_the_warmup_are_top_and_bottom_one_is_the_top_and_none_ends_on_the_way_up(name):
    def last(max_steps, warmup_steps):
        return learning_rate_at(max_steps - 1, config(schedule=name, max_steps=max_steps, warmup_steps=warmup_steps))

    for warmup_steps in (0, 1, 7):
        assert last(warmup_steps + 2, warmup_steps) == 0.3 * 0.2
        assert last(warmup_steps + 1, warmup_steps) == 0.3
    assert last(7, 7) == 0.3
    assert [last(n, 7) for n in (1, 4, 6)] == pytest.approx([0.3 / 7, 0.3 * 4 / 7, 0.3 * 6 / 7])


def test_beyond_the_last_step_it_stays_at_the_bottom():
    assert [learning_rate_at(step, config()) for step in (47, 99)] == [0.3 * 0.2] * 2


def test_every_schedule_falls_from_one():
    assert all(shape(0.0) == 1 for shape in SCHEDULES.values())
