"""What may come from outside in the middle of a run: a signal in any phase, a lack of memory, a look that fails."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from glassgpt.checkpoint import open_run
from glassgpt.errors import GlassError, MachineError, Stopped
from glassgpt.train import Observer, resume_run, saver, train_run, trainer
from glassgpt.train.guards import smaller_micro_batch, stop_on_signal
from glassgpt.train.loss import chunked_loss
from glassgpt.train.observers import MetricsFile

from .test_run import StopAt, assert_same, final_state

SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def press(number):
    os.kill(os.getpid(), number)


def sample_like(model, data):
    return f"{sum(float(p.detach().sum()) for p in model.parameters()):.9g}"


@SIGNALS
@pytest.mark.parametrize("step", [5, 14])
def test_a_signal_during_a_validation_ends_it_at_once(config, recorder, monkeypatch, number, code, step):
    """A validation may take minutes, and is done again by the resumed run."""
    whole = train_run(config, sample=sample_like)
    real = trainer.evaluate

    def evaluate(*some):
        if recorder.of("step")[-1][1] == step:
            press(number)
            time.sleep(20)
        return real(*some)

    began = time.monotonic()
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "evaluate", evaluate)
        with pytest.raises(Stopped, match=f"stopped after step {step} of 14, saved; go on with") as stopped:
            train_run(config, out="r", observers=[recorder], sample=sample_like)
    assert stopped.value.exit_code == code and time.monotonic() - began < 10
    assert open_run(Path("r")).steps()[-1] == step
    assert_same(whole, resume_run(open_run(Path("r")), sample=sample_like))


@SIGNALS
@pytest.mark.parametrize("step", [0, 7])
def test_a_signal_during_a_sample_ends_it_at_once(config, recorder, number, code, step):
    config = config if step else config.with_values(sample_every=0)  # then there is one before the first step
    whole = train_run(config, sample=sample_like)

    def slow_sample(model, data):
        if len(recorder.of("step")) == step:
            press(number)
            time.sleep(20)
        return sample_like(model, data)

    began = time.monotonic()
    with pytest.raises(Stopped, match=f"stopped after step {step} of 14, saved") as stopped:
        train_run(config, out="r", observers=[recorder], sample=slow_sample)
    assert stopped.value.exit_code == code and time.monotonic() - began < 10
    resumed = resume_run(open_run(Path("r")), sample=sample_like)
    assert_same(whole, resumed)
    for name in (f"step-{step:08d}.txt", "step-00000014.txt"):
        assert (resumed.samples_folder / name).read_text() == (whole.samples_folder / name).read_text()


@SIGNALS
def test_a_signal_during_a_save_waits_for_it(config, monkeypatch, number, code):
    real = saver.save_checkpoint

    def slow_save(folder, **more):
        if folder.name == "step-00000004":
            press(number)
            time.sleep(0.5)
        real(folder, **more)

    with monkeypatch.context() as patched:
        patched.setattr(saver, "save_checkpoint", slow_save)
        with pytest.raises(Stopped) as stopped:
            train_run(config, out="r")
    run = open_run(Path("r"))
    assert stopped.value.exit_code == code
    assert all(run.problem_of(step) is None for step in run.steps()) and run.steps()[-1] in (4, 5, 6)
    assert_same(train_run(config), resume_run(run))


def test_a_signal_during_a_save_comes_before_the_validation_that_follows(config, monkeypatch):
    class Press(Observer):
        def on_save(self, step, folder):
            if step == 5:
                press(signal.SIGINT)

    monkeypatch.setattr(saver, "free_memory", lambda device: 0)  # training waits, and hears of the save at its end
    monkeypatch.setattr(trainer, "evaluate", lambda *some: pytest.fail("it may take minutes"))
    with pytest.raises(Stopped, match="stopped after step 5 of 14, saved"):
        train_run(config, out="r", observers=[Press()])


def test_where_steps_are_slow_the_wait_is_said(config, monkeypatch):
    told = []

    class Press(Observer):
        def on_step(self, step, metrics):
            if step == 5:
                press(signal.SIGINT)

        def on_message(self, text):
            told.append(text)

    monkeypatch.setattr("glassgpt.train.pace.Pace.step_seconds", 75.4)
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[Press()])
    assert "stopping once this step is done and saved (a step takes 75 s); once more stops at once, unsaved" in told


def test_a_second_ctrl_c_does_not_even_wait_for_the_save(config, monkeypatch):
    saving, over = threading.Event(), threading.Event()
    real = saver.save_checkpoint

    def endless_save(folder, **more):
        if folder.name == "step-00000000":
            real(folder, **more)
        else:
            saving.set()
            over.wait(60)
            raise MachineError("it was never written")

    class Impatient(Observer):
        def on_step(self, step, metrics):
            if step == 6:
                press(signal.SIGINT)

        def on_message(self, text):
            if text.startswith("stopping once"):
                threading.Timer(0.5, press, [signal.SIGINT]).start()

    monkeypatch.setattr(saver, "save_checkpoint", endless_save)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            train_run(config.with_values(eval_every=99, sample_every=99), out="r", observers=[Impatient()])
        assert saving.is_set() and time.monotonic() - began < 10
    finally:
        over.set()


def test_an_echo_of_the_first_ctrl_c_is_no_second_one(config):
    """What stands between a terminal and a process may pass on the one that has reached it already."""

    class Twice(Observer):
        def on_step(self, step, metrics):
            if step == 6:
                press(signal.SIGINT)
                press(signal.SIGINT)

    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[Twice()])


def test_a_signal_in_the_middle_of_a_print_is_heard_all_the_same():
    def tell():
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    with stop_on_signal(tell) as request:
        press(signal.SIGINT)
        assert request and request.signal_number == signal.SIGINT


def test_two_who_fail_together_are_both_left_out(config, recorder):
    class Gone(Observer):
        called = "the clock"

        def on_step(self, step, metrics):
            raise ValueError("I/O operation on closed file")

        def on_message(self, text):
            raise ValueError("I/O operation on closed file")

    assert train_run(config, observers=[Gone(), Gone(), recorder]).result_file.exists()
    assert sum(text.startswith("the clock cannot go on (") for _, text in recorder.of("message")) == 2


@pytest.mark.parametrize("at", [5, 14])
def test_a_validation_that_is_not_finite_is_a_failed_one(config, recorder, monkeypatch, at):
    """Nothing is better than nan, and it is no JSON."""
    real = trainer.evaluate

    def evaluate(*some):
        step = recorder.of("step")[-1][1]
        return real(*some) | ({"val_loss": float("nan")} if step == at else {})

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    if at == 14:
        with pytest.raises(GlassError, match=r"the last validation failed \(val_loss is nan\)"):
            train_run(config, out="r", observers=[recorder])
    else:
        train_run(config, out="r", observers=[recorder])
        assert ("message", "step 5: the validation failed (val_loss is nan); training goes on") in recorder.events
    run = open_run(Path("r"))
    assert run.best()["step"] == (10 if at == 14 else run.best()["step"]) and "NaN" not in run.best_file.read_text()
    assert run.last_whole_checkpoint()[0] == run.checkpoint_folder(14)


def test_a_trial_of_the_validation_that_fails_does_not_end_the_run(config, recorder, monkeypatch):
    def fail(*some):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(trainer, "evaluation_seconds", fail)
    run = train_run(config.with_values(eval_every=0, save_every=0, sample_every=0), observers=[recorder])
    message = "a trial of the validation failed (RuntimeError: out of luck); training goes on"
    assert ("message", message) in recorder.events and run.result_file.exists()


def test_the_failure_of_a_validation_is_told_and_the_run_goes_on(config, recorder, monkeypatch):
    real, calls = trainer.evaluate, []

    def evaluate(*some):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("a\nbug")
        return real(*some)

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    run = train_run(config, observers=[recorder])
    assert ("message", "step 5: the validation failed (ValueError: a bug); training goes on") in recorder.events
    assert [line["step"] for line in run.metrics() if "val_loss" in line] == [10, 14]
    assert run.result_file.exists()


def test_where_the_last_validation_fails_everything_is_saved(config, monkeypatch):
    """Also where the disk was out of luck once."""

    def fail(*some):
        raise RuntimeError("out of luck")

    real, saves = saver.save_checkpoint, []

    def save_checkpoint(folder, **more):
        saves.append(folder.name)
        if saves.count("step-00000014") == 1:
            raise MachineError("out of luck")
        real(folder, **more)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "evaluate", fail)
        patched.setattr(saver, "save_checkpoint", save_checkpoint)
        message = (
            r"all 14 steps are done and saved, but the last validation failed \(RuntimeError: out of luck\); try it again "
            "with: glassgpt resume r$"
        )
        with pytest.raises(GlassError, match=message):
            train_run(config, out="r")
    assert open_run(Path("r")).problem_of(14) is None
    resumed = resume_run(open_run(Path("r")))
    assert resumed.result_file.exists() and [line["val_loss"] for line in resumed.metrics() if "val_loss" in line]


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("out of memory"), GlassError("nothing to say")])
def test_a_sample_that_fails_in_any_way_is_told(config, recorder, error):
    def broken(model, data):
        raise error

    train_run(config, observers=[recorder], sample=broken)
    assert any(text.startswith("no sample: ") and str(error) in text for _, text in recorder.of("message"))


def test_who_only_watches_cannot_end_a_run(config, recorder):
    class Gone(Observer):
        """A terminal that was closed, or a pipe whose reader has left."""

        def on_step(self, step, metrics):
            raise BrokenPipeError(32, "Broken pipe")

    run = train_run(config, observers=[Gone(), recorder])
    assert run.result_file.exists()
    said = "an observer cannot go on ([Errno 32] Broken pipe); training does"
    assert recorder.of("message").count(("message", said)) == 1


def test_without_its_metrics_a_run_does_not_go_on(config, monkeypatch):
    real = MetricsFile.on_step

    def on_step(self, step, metrics):
        if step == 7:
            self.path = Path("nowhere/metrics.jsonl")
            Path("nowhere").mkdir()
            Path("nowhere/metrics.jsonl").mkdir()
        real(self, step, metrics)

    monkeypatch.setattr(MetricsFile, "on_step", on_step)
    message = (
        r"nowhere.metrics.jsonl could not be written \(Is a directory\); check the disk, and .*, then go on with: glass"
    )
    with pytest.raises(MachineError, match=message):
        train_run(config)


def test_watching_more_or_less_leaves_the_same_bits(config):
    """Logging, validation, samples and checkpoints in every combination."""
    states = []
    for log, evaluate, sample, save in (
        (1, 14, 14, 14),
        (14, 1, 14, 14),
        (14, 14, 1, 14),
        (14, 14, 14, 1),
        (3, 2, 4, 5),
    ):
        config = config.with_values(log_every=log, eval_every=evaluate, sample_every=sample, save_every=save)
        states.append(final_state(train_run(config, sample=draws_numbers))[0])
    assert all(state[name].equal(tensor) for state in states for name, tensor in states[0].items())


def draws_numbers(model, data):
    return str(torch.rand(3))


def test_a_micro_batch_shrinks_by_half_and_divides_the_batch():
    sizes, size = [], 12
    while size := smaller_micro_batch(size, 12):
        sizes.append(size)
    assert sizes == [6, 3, 1]
    assert smaller_micro_batch(15, 15) == 5 and smaller_micro_batch(7, 7) == 1 and smaller_micro_batch(1, 8) == 0


@pytest.fixture
def fits(monkeypatch):
    """From this step on, memory is enough for so many rows only."""
    limits = {"step": 0, "rows": 99}
    real = trainer.update

    def update(*some, step, loss, **more):
        def limited(model, batch):
            value = loss(model, batch)
            if step + 1 >= limits["step"] and len(batch.tokens) > limits["rows"]:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
            return value

        return real(*some, step=step, loss=limited, **more)

    monkeypatch.setattr(trainer, "update", update)
    return limits


def test_out_of_memory_halves_the_micro_batch_and_goes_on(config, recorder, fits):
    config = config.with_values(batch_size=8, micro_batch_size=8, dropout=0.0)
    whole = train_run(config)
    fits.update(step=6, rows=2)
    run = train_run(config, out="r", observers=[recorder])
    assert [text for _, text in recorder.of("message") if "out of memory" in text] == [
        f"step 6: out of memory at micro_batch_size {2 * size}; going on with {size}, {8 // size} of them an update: "
        "the same batches, equal to rounding"
        for size in (4, 2)
    ]
    assert run.config().train.micro_batch_size == 2
    a, b = final_state(whole)[0], final_state(run)[0]
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=1e-3, atol=1e-5)
    steps = [[line for line in r.metrics() if "train_loss" in line] for r in (whole, run)]
    for one, other in zip(*steps, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert one["tokens"] == other["tokens"]


def test_an_attempt_that_ran_out_of_memory_half_done_counts_for_nothing(config, fits, monkeypatch):
    """Its gradients are gone before the next one, and so is their memory."""
    fits.update(step=6, rows=1)
    whole = train_run(config, out="whole")
    fits.update(step=0, rows=99)
    calls, held = [], []
    real = trainer.update

    def update(model, *some, step, loss, **more):
        def third(model, batch):
            calls.append(step)
            if calls.count(5) == 3:
                raise MemoryError
            return loss(model, batch)

        held.append([p for p in model.parameters() if p.grad is not None])
        return real(model, *some, step=step, loss=third, **more)

    monkeypatch.setattr(trainer, "update", update)
    run = train_run(config, out="r")
    assert len(calls) == 5 * 3 + 3 + 9 * 6 and len(held) == 15 and not any(held)
    assert_same(whole, run)


def test_a_run_that_shrank_is_stopped_and_resumed(config, fits):
    fits.update(step=6, rows=1)
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[StopAt(9)])
    assert_same(train_run(config, out="whole"), resume_run(open_run(Path("r"))))


def test_out_of_memory_in_the_first_trial_halves_the_micro_batch_as_well(config, recorder, monkeypatch):
    """As on a GPU, where the trial is as large as the training."""

    def limited(model, batch):
        if len(batch.tokens) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return chunked_loss(model, batch)

    monkeypatch.setattr("glassgpt.train.settle.chunked_loss", limited)
    run = train_run(config.with_values(batch_size=8, micro_batch_size=8), observers=[recorder])
    assert run.config().train.micro_batch_size == 2 and run.steps()[-1] == 14
    said = [text for _, text in recorder.of("message") if "out of memory" in text]
    assert said == [f"out of memory at micro_batch_size {size}; going on with {size // 2}" for size in (8, 4)]


def test_killed_between_running_out_of_memory_and_the_next_checkpoint_it_is_the_same_run(config, fits):
    """The steps in between were done with the larger micro batches, and so they are again."""
    fits.update(step=7, rows=1)
    whole = train_run(config, out="whole")
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[StopAt(7)])
    run = open_run(Path("r"))
    assert run.config().train.micro_batch_size == 1
    shutil.rmtree(run.checkpoint_folder(7))
    assert run.last_whole_checkpoint()[0] == run.checkpoint_folder(5)
    assert_same(whole, resume_run(run))


def test_where_one_row_is_too_much_it_says_what_helps(config, fits):
    fits.update(step=6, rows=0)
    with pytest.raises(
        MachineError, match="out of memory at micro_batch_size 1; take a smaller model or context_length"
    ):
        train_run(config, out="r")
    assert open_run(Path("r")).steps()[-1] == 5


def test_another_error_is_no_lack_of_memory(config, monkeypatch):
    def broken(*some, **more):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(trainer, "update", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train_run(config)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit on memory that holds")
def test_a_real_lack_of_memory(text):
    """A limit that the process gets in the middle of its training."""
    program = f"""
import psutil, resource
from dataclasses import replace
import glassgpt.train.run
from glassgpt import build_config, train_run
from glassgpt.train import Observer, trainer

class Tighten(Observer):
    def on_start(self, *rest):
        limit = psutil.Process().memory_info().vms + 100_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    def on_message(self, text):
        print(text)

class Greedy(trainer.Trainer):
    def fit(self):
        self.config = replace(self.config, train=replace(self.config.train, micro_batch_size=2048))
        super().fit()

glassgpt.train.run.Trainer = Greedy
settings = dict(tokenizer="char", context_length=64, n_layer=1, n_head=2, n_embd=16, n_inner=32, max_steps=2, warmup_steps=1,
                batch_size=2048, micro_batch_size=16, precision="float32", compile="off", threads=1)
run = train_run(build_config(flags=settings | dict(data={str(text)!r})), out="r", observers=[Tighten()])
print(run.config().train.micro_batch_size)
"""
    environment = os.environ | {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "0",
        "MALLOC_MMAP_THRESHOLD_": "65536",
    }
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"step 1: out of memory at micro_batch_size 2048; going on with 1024", done.stdout)
    assert int(done.stdout.split()[-1]) <= 1024
