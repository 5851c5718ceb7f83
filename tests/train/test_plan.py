import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.config import TrainConfig
from glassgpt.train.plan import (
    EVALUATION_SHARE,
    SAMPLE_SHARE,
    SECONDS_TO_FINISH,
    SLOWDOWN,
    Measured,
    length_share,
    plan,
)
from glassgpt.train.schedule import fewest_steps

MEASURED = Measured(step=0.05, evaluation=4.0, sample=1.0, save=0.3)


@given(
    seconds=st.floats(5, 10_000),
    step=st.floats(1e-3, 5),
    evaluation=st.floats(1e-3, 60),
    eval_every=st.sampled_from([0, 0, 7, 250]),
    sample_every=st.sampled_from([0, 0, 11]),
    done=st.integers(1, 50),
)
def test_the_planned_run_ends_in_time_and_uses_it(seconds, step, evaluation, eval_every, sample_every, done):
    measured = Measured(step=step, evaluation=evaluation, sample=0.7, save=0.2)
    asked = TrainConfig(minutes=1.0, eval_every=eval_every, sample_every=sample_every)
    settled = plan(asked, step=done, seconds_left=seconds, measured=measured)

    def times(every):
        return math.ceil(settled.max_steps / every) - done // every

    looking = times(settled.eval_every) * (evaluation + 0.2) + times(settled.sample_every) * 0.7
    spent = (settled.max_steps - done) * step + looking
    if settled.max_steps > done:
        assert spent <= seconds - SECONDS_TO_FINISH + 1e-6
        if not eval_every and not sample_every:
            assert spent >= 0.85 * (seconds - SECONDS_TO_FINISH) - 2 * step - (evaluation + 0.9)
        if eval_every and sample_every:  # one step more would not have fitted
            slow = step * (1 + SLOWDOWN * min(1, seconds / 60))
            more = settled.max_steps + 1
            looking = (math.ceil(more / eval_every) - done // eval_every) * (evaluation + 0.2)
            looking += (math.ceil(more / sample_every) - done // sample_every) * 0.7
            assert (more - done) * slow + looking > seconds - SECONDS_TO_FINISH - 1e-6
    assert settled.minutes == 0 and settled.eval_every >= 1 and settled.save_every >= 1 and settled.sample_every >= 1


def test_validation_takes_its_share_and_no_more():
    settled = plan(TrainConfig(minutes=4.0), step=10, seconds_left=220.0, measured=MEASURED)
    evaluations = math.ceil(settled.max_steps / settled.eval_every)
    assert evaluations * MEASURED.evaluation <= EVALUATION_SHARE * 220
    assert evaluations >= 2


def test_what_was_asked_for_is_left_alone():
    asked = TrainConfig(max_steps=77, eval_every=13, save_every=9, sample_every=50)
    assert plan(asked, step=10, seconds_left=None, measured=MEASURED) == asked


def test_given_steps_only_the_intervals_are_settled():
    settled = plan(TrainConfig(max_steps=1000), step=10, seconds_left=None, measured=MEASURED)
    assert settled.max_steps == 1000
    time = 990 * MEASURED.step * (1 + SLOWDOWN)
    assert settled.eval_every == math.ceil(1000 / max(1, int(EVALUATION_SHARE * time / MEASURED.evaluation)))
    assert settled.sample_every == math.ceil(1000 / max(1, int(SAMPLE_SHARE * time / MEASURED.sample)))


def test_no_time_left_ends_the_run_where_it_is():
    assert plan(TrainConfig(minutes=0.1), step=12, seconds_left=-5.0, measured=MEASURED).max_steps == 12


def test_the_length_of_a_schedule_that_stays_level_is_left_open_until_it_matters():
    level = TrainConfig(minutes=4.0, schedule="wsd")
    assert length_share("cosine") == length_share("linear") == 0
    assert 0.4 < length_share("wsd") < 0.6 < length_share("constant") < 1
    settled = plan(level, step=10, seconds_left=220.0, measured=MEASURED, fix_length=False)
    assert (settled.max_steps, settled.minutes) == (0, 4.0)
    whole = plan(level, step=10, seconds_left=220.0, measured=MEASURED)
    assert settled == replace(whole, max_steps=0, minutes=4.0)


def test_a_run_is_not_planned_so_short_that_its_rate_should_have_fallen_before():
    level = TrainConfig(minutes=4.0, schedule="wsd", warmup_steps=0)
    assert plan(level, step=600, seconds_left=20.0, measured=MEASURED).max_steps == fewest_steps(600, level) > 900


def test_the_less_is_to_come_the_less_is_set_aside():
    def steps(seconds_left):
        asked = TrainConfig(minutes=10.0, eval_every=10**6, sample_every=10**6)
        return plan(asked, step=0, seconds_left=seconds_left + 3, measured=Measured(0.01, 0, 0, 0)).max_steps

    assert steps(60) * 0.01 == pytest.approx(60 / (1 + SLOWDOWN * 63 / 600), rel=1e-3)
    assert steps(597) * 0.01 == pytest.approx(597 / (1 + SLOWDOWN), rel=1e-3)


def test_a_long_run_is_saved_every_few_minutes():
    slow = Measured(step=2.0, evaluation=100.0, sample=1.0, save=0.3)
    settled = plan(TrainConfig(max_steps=20_000), step=10, seconds_left=None, measured=slow)
    assert settled.save_every * 2.0 <= 310
    assert settled.max_steps / settled.eval_every * 100.0 <= (EVALUATION_SHARE + 0.01) * 40_000
