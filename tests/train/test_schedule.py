import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.config import TrainConfig
from glassgpt.train.schedule import SCHEDULES, fewest_steps, learning_rate_at


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


def test_wsd_stays_level_and_falls_by_equal_parts_over_the_last_two_fifths():
    rates = [learning_rate_at(step, config(schedule="wsd", max_steps=58)) for step in range(58)]  # 7 + 50 + the last
    assert set(rates[7 : 7 + 31]) == {0.3} and rates[7 + 31] < 0.3
    assert rates[7 + 30 :] == pytest.approx([0.3 * (1 - 0.8 * part / 20) for part in range(21)])
    assert rates[-1] == 0.3 * 0.2  # exactly


@given(
    name=st.sampled_from(["wsd", "constant"]),
    warmup_steps=st.integers(0, 50),
    done=st.integers(1, 300),
    more=st.integers(0, 300),
    decay_to=st.floats(0, 1),
)
def test_the_rates_of_steps_done_do_not_change_once_max_steps_is_fixed(name, warmup_steps, done, more, decay_to):
    before = config(schedule=name, warmup_steps=warmup_steps, decay_to=decay_to, max_steps=0, minutes=1.0)
    fixed = replace(before, max_steps=fewest_steps(done, before) + more, minutes=0.0)
    assert [learning_rate_at(step, fixed) for step in range(done)] == [
        learning_rate_at(step, before) for step in range(done)
    ]


def test_the_fewest_steps_are_few():
    """One less, and the last step done would have been in the fall; but for a warmup that is not over nothing is needed."""
    wsd = config(schedule="wsd", max_steps=0, minutes=1.0)
    shorter = replace(wsd, max_steps=fewest_steps(37, wsd) - 2, minutes=0.0)
    assert learning_rate_at(36, shorter) < 0.3
    assert fewest_steps(7, wsd) == 7 and fewest_steps(37, config(schedule="linear")) == 37


def test_the_shapes():
    middle = 7 + 39 / 2  # half-way between the first step after warmup and the last
    assert learning_rate_at(7 + 13, config(schedule="linear")) == pytest.approx(0.3 * (0.2 + 0.8 * (1 - 13 / 39)))
    assert learning_rate_at(7 + 13, config()) == pytest.approx(0.3 * (0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 3))))
    assert learning_rate_at(int(middle), config(schedule="constant")) == 0.3


def test_no_warmup_begins_at_the_highest_rate_and_a_single_step_is_defined():
    assert learning_rate_at(0, config(warmup_steps=0)) == 0.3
    assert learning_rate_at(0, config(warmup_steps=0, max_steps=1)) == 0.3


@pytest.mark.parametrize("name", ["cosine", "wsd", "linear"])
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
    assert all(schedule.height(0.0) == 1 for schedule in SCHEDULES.values())
