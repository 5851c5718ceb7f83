"""Runs that are given a time: the number of steps and the intervals are settled while they train."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from glassgpt.checkpoint import open_run
from glassgpt.errors import Stopped
from glassgpt.train import Observer, resume, resume_run, saver, train_run
from glassgpt.train.pace import Pace

from .test_resume import rewrite
from .test_run import StopAt

OPEN = {"eval_every": 0, "save_every": 0, "sample_every": 0}


class CtrlC(Observer):
    """Presses it whenever `moment` (an event's name) is told."""

    def __init__(self, moment):
        setattr(self, moment, lambda *details: os.kill(os.getpid(), signal.SIGINT))


def timed(config, minutes, **more):
    given = {"max_steps": 0, "minutes": minutes, "micro_batch_size": 6, "schedule": "linear"}
    return config.with_values(**OPEN | given | more)


def messages(recorder):
    return [event[1] for event in recorder.of("message")]


def history(run):
    clocks = ("seconds", "tokens_per_second")
    return [{k: v for k, v in line.items() if k not in clocks} for line in run.metrics()]


@pytest.mark.parametrize("schedule", ["linear", "wsd"])
def test_minutes_are_kept_and_turned_into_steps(config, recorder, soon_finished, schedule):
    began = time.monotonic()
    asked = timed(config, 0.08, warmup_steps=10, schedule=schedule)
    run = train_run(asked, observers=[recorder])
    seconds = time.monotonic() - began
    settled = run.config()
    assert settled.train.minutes == 0 and settled.minutes_given == 0.08 and settled.train.max_steps > 20
    assert 3.0 < seconds < 7.0
    assert run.steps()[-1] == settled.train.max_steps == json.loads(run.result_file.read_text())["steps"]
    assert len(recorder.of("plan")) == (1 if schedule == "linear" else 2)


def test_the_first_save_says_what_the_others_take(config, slow_steps, soon_finished, monkeypatch):
    """A validation waits until what is being written is on the disk."""
    real = saver.save_checkpoint
    monkeypatch.setattr(saver, "save_checkpoint", lambda *some, **more: (time.sleep(0.35), real(*some, **more)))
    slow_steps(0.01)
    began = time.monotonic()
    run = train_run(timed(config, 0.12, warmup_steps=10))
    assert len(run.metrics()) > 5 and 5.5 < time.monotonic() - began < 7.2 + 1.2


def test_stopping_before_the_speed_is_known_settles_nothing(config, recorder):
    """One cold step says nothing about the others; the next sitting measures."""
    with pytest.raises(Stopped, match="stopped after step 1, saved; go on with: glassgpt resume r$"):
        train_run(timed(config, 0.1, warmup_steps=3000), out=Path("r"), observers=[recorder, CtrlC("on_step")])
    assert "stopping once this step is done and saved; once more stops at once, unsaved" in messages(recorder)
    run = open_run(Path("r"))
    assert run.config().train.minutes == 0.1 and run.config().train.max_steps == 0 and run.steps() == [0, 1]
    assert not recorder.of("plan")
    resume_run(run)
    assert run.config().train.minutes == 0 and run.config().train.max_steps > 50


def test_a_long_run_is_planned_from_a_long_look(config, recorder):
    """More steps than the last hundred, until they have taken their share of the time."""
    with pytest.raises(Stopped):
        train_run(timed(config, 2.0, warmup_steps=9000), observers=[recorder, CtrlC("on_plan")])
    spent = sum(1 / metrics["tokens_per_second"] for _, _, metrics in recorder.of("step")) * 6 * 11
    assert len(recorder.of("step")) > 150 and spent == pytest.approx(0.03 * 120, rel=0.3)


def test_slow_steps_are_planned_after_a_tenth_of_the_time(config, recorder, slow_steps):
    slow_steps(0.3)
    train_run(timed(config, 0.1, warmup_steps=10), observers=[recorder])
    before_the_plan = recorder.events[: recorder.events.index(recorder.of("plan")[0])]
    assert 2 <= sum(event[0] == "step" for event in before_the_plan) <= 4
    assert any("the time is short: a step takes 0.3" in message for message in messages(recorder))


@pytest.mark.parametrize(("step_seconds", "is_short"), [(0.3, True), (0.1, False)])
def test_a_run_that_is_half_warmup_is_said_to_be_short(config, step_seconds, is_short):
    train = timed(config, 0.5, warmup_steps=10).train
    pace = Pace(time.monotonic() + 6)
    for _ in range(10):
        pace.add(step_seconds)
    settled, words = pace.settle(train, 10, lambda: 0.1)
    assert settled.max_steps > 10 and (settled.max_steps <= 20) is is_short
    assert words.startswith("the time is short") if is_short else words is None


@pytest.mark.parametrize("schedule", ["linear", "wsd"])
def test_a_validation_that_outlasts_the_time_is_said_so(config, recorder, monkeypatch, schedule):
    from glassgpt.train import pace

    def slow(*arguments):
        time.sleep(0.7)
        return real(*arguments)

    real = pace.score
    monkeypatch.setattr(pace, "score", slow)
    run = train_run(timed(config, 0.05, warmup_steps=10, schedule=schedule), observers=[recorder])
    assert any(
        "the time is short" in message and "a validation 0.7" in message and "give more minutes" in message
        for message in messages(recorder)
    )
    assert run.result_file.exists()


def test_a_machine_that_slows_down_is_named_when_the_run_ends_late(config, recorder, slow_steps, monkeypatch):
    monkeypatch.setattr("glassgpt.train.plan.SECONDS_TO_FINISH", 0.2)

    class SlowDown(Observer):
        def on_plan(self, config):
            steps_to_come = config.train.max_steps - recorder.of("step")[-1][1]
            slow_steps(3.6 / steps_to_come)  # in all of the time that was given, some of which has gone by

    slow_steps(0.01)
    train_run(timed(config, 0.06, warmup_steps=90), observers=[recorder, SlowDown()])
    print(*recorder.of("message"), recorder.of("step")[-1], recorder.of("plan")[0][1].train, sep="\n")
    assert any("s late: this machine became slower" in message for message in messages(recorder))


def test_a_time_that_was_over_before_the_first_step_is_not_laid_on_the_machine(config, recorder):
    train_run(timed(config, 0.01, warmup_steps=10), observers=[recorder], started=time.monotonic() - 5)
    assert any(message.endswith("s late: it took 5 s until the first step") for message in messages(recorder))


def test_no_warmup_said_is_a_share_of_the_time(config, slow_steps):
    warmups = []
    for seconds, minutes in ((0.1, 1.0), (0.1, 3.0), (0.2, 1.0)):
        slow_steps(seconds)
        with pytest.raises(Stopped):
            train_run(
                timed(config, minutes, warmup_steps=0), out=Path(f"r{len(warmups)}"), observers=[CtrlC("on_step")]
            )
        warmups.append(open_run(Path(f"r{len(warmups)}")).config().train.warmup_steps)
    assert warmups[0] == pytest.approx(0.04 * 60 / 0.102, rel=0.2)
    assert warmups[1] == pytest.approx(3 * warmups[0], rel=0.2)
    assert warmups[2] == pytest.approx(12, abs=1)


def test_a_level_rate_leaves_the_length_open_for_half_the_time(config, recorder, slow_steps, soon_finished):
    """So that the burst of load at the beginning, from which a falling rate has to be planned, is soon forgotten."""

    class BurstIsOver(Observer):
        def on_plan(self, config):
            slow_steps(0.01)

    def steps(schedule):
        slow_steps(0.05)
        asked = timed(config, 0.08, warmup_steps=10, schedule=schedule)
        return train_run(asked, observers=[recorder, BurstIsOver()]).config().train.max_steps

    falling, level = steps("linear"), steps("wsd")
    assert level > 1.7 * falling
    _, at_first, later = (event[1].train for event in recorder.of("plan"))
    assert at_first.minutes == 0.08 and not at_first.max_steps and at_first.eval_every
    assert later == replace(at_first, minutes=0.0, max_steps=level)


def test_a_run_that_goes_on_before_its_length_is_fixed_has_what_is_left_of_the_time(config, slow_steps, soon_finished):
    class StopAfter(Observer):
        def on_step(self, step, metrics):
            if metrics["seconds"] > 2.0:
                os.kill(os.getpid(), signal.SIGINT)

    slow_steps(0.02)
    asked = timed(config, 0.1, warmup_steps=4, schedule="wsd")
    with pytest.raises(Stopped):
        train_run(asked, out=Path("r"), observers=[StopAfter()])
    run = open_run(Path("r"))
    assert run.config().train.minutes == 0.1 and run.config().train.eval_every
    began = time.monotonic()
    resume_run(run)
    assert 2.0 < time.monotonic() - began < 5.0  # of 6 s, at least two are gone
    assert history(run) == history(train_run(run.config()))


def gone_on_after(run, seconds, *observers):
    """A run that was stopped is resumed as if its sitting had taken so long."""
    state = run.checkpoint_folder(run.steps()[-1]) / "state.json"
    rewrite(state, json.loads(state.read_text()) | {"seconds_in_all": seconds})
    return resume_run(run, observers=observers)


@pytest.fixture
def just_begun(config):
    with pytest.raises(Stopped):
        train_run(timed(config, 1.0, warmup_steps=10), out="r", observers=[StopAt(3)])
    return open_run(Path("r"))


def slow_to_read(monkeypatch, seconds):
    real = resume.reopen_data
    monkeypatch.setattr(resume, "reopen_data", lambda *some: (time.sleep(seconds), real(*some))[1])


def test_the_minutes_are_those_of_all_sittings(just_begun, recorder, monkeypatch):
    """It has half a second left, and reads for longer: what it is late by is little of its minute."""
    slow_to_read(monkeypatch, 1.0)
    deadlines = []

    class Deadline(Observer):
        def on_start(self, run, config, step, deadline):
            deadlines.append(deadline)

    began = time.monotonic()
    gone_on_after(just_begun, 59.5, recorder, Deadline())
    assert 0.4 < deadlines[0] - began < 0.6
    assert not any("late" in message for message in messages(recorder))
    assert time.monotonic() - began < 3.2


def test_a_run_that_was_late_to_go_on_says_so(just_begun, recorder, monkeypatch):
    slow_to_read(monkeypatch, 4.0)
    gone_on_after(just_begun, 59.5, recorder)
    assert any(message.endswith("s late: it was stopped, and took 4 s to go on") for message in messages(recorder))
