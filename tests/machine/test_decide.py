import os
import time

import pytest
import torch

from glassgpt.errors import ConfigError, MachineError
from glassgpt.machine import Decision, decide_compile, decide_device, decide_precision, decide_threads
from glassgpt.machine.decide import speed_ratio

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def machine(monkeypatch, *, gpus=0, mps=False, bfloat16=True):
    """Pretend to be a machine with so many GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Fast 9000")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


class Trial:
    """Work that takes as long as it is told, on a clock that only it moves."""

    def __init__(self, monkeypatch, **seconds):
        self.now, self.seconds, self.runs = 0.0, seconds, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def __call__(self, choice):
        def work():
            self.runs.append(choice)
            self.now += self.seconds[str(choice)]

        return work


def no_trial(choice):
    raise AssertionError("nothing is to be tried")


# Device.


def test_the_best_device_is_taken(monkeypatch):
    machine(monkeypatch, gpus=1, mps=True)
    assert decide_device() == decide_device("auto") == Decision("cuda", "Fast 9000")
    machine(monkeypatch, mps=True)
    assert decide_device() == Decision("mps", "Apple GPU")
    machine(monkeypatch)
    assert decide_device() == Decision("cpu", "no CUDA or MPS device")


@pytest.mark.parametrize("wanted", ["cpu", "cuda", "cuda:0", "cuda:1", "mps"])
def test_what_is_asked_for_is_taken(monkeypatch, wanted):
    machine(monkeypatch, gpus=2, mps=True)
    assert decide_device(wanted) == Decision(wanted, "asked for")


def test_what_is_not_there_is_the_machines_fault(monkeypatch):
    machine(monkeypatch)
    for wanted in ("cuda", "cuda:1"):
        with pytest.raises(
            MachineError, match=rf"^device {wanted} was asked for, but torch \S+ sees no CUDA device here; use"
        ):
            decide_device(wanted)
    with pytest.raises(MachineError, match="^device mps was asked for, but there is no Apple GPU here; use cpu$"):
        decide_device("mps")
    machine(monkeypatch, gpus=2)
    with pytest.raises(MachineError, match="^device cuda:2 was asked for; this machine has 2, counted from 0$"):
        decide_device("cuda:2")


@pytest.mark.parametrize(
    "wrong", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cpu:", "cpu:1", "", "auto:0", "cpu\n"]
)
def test_no_such_device_anywhere(monkeypatch, wrong):
    machine(monkeypatch, gpus=2, mps=True)
    with pytest.raises(ConfigError) as caught:
        decide_device(wrong)
    assert str(caught.value) == f"device {wrong!r} is not known; it is auto, cpu, mps, cuda, or cuda:N"


# Threads.


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_threads(threads, monkeypatch):
    assert decide_threads() == decide_threads(0) == threads
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert decide_threads(3) == 3 == torch.get_num_threads()
    assert decide_threads(2) == 2 == torch.get_num_threads()
    assert decide_threads(1) == 1 == torch.get_num_threads() == decide_threads(0)
    with pytest.raises(
        ConfigError, match="^threads is 4; this machine has 3 cores, and more threads only wait for each"
    ):
        decide_threads(4)
    assert torch.get_num_threads() == 1


# Precision.


@pytest.mark.parametrize(
    ("float32", "bfloat16", "choice"), [(1.0, 0.5, "bfloat16"), (0.5, 1.0, "float32"), (1.0, 0.95, "float32")]
)
def test_on_a_cpu_the_faster_precision_is_taken(monkeypatch, float32, bfloat16, choice):
    trial = Trial(monkeypatch, float32=float32, bfloat16=bfloat16)
    decision = decide_precision("auto", CPU, trial)
    assert decision.choice == choice
    assert decision.reason == f"a trial in bfloat16 ran at {float32 / bfloat16:.2f} x the speed of float32"
    assert set(trial.runs) == {"float32", "bfloat16"}


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", [CPU, MPS, CUDA])
def test_a_precision_that_was_asked_for_is_not_tried(monkeypatch, wanted, device):
    machine(monkeypatch, gpus=1)
    assert decide_precision(wanted, device, no_trial) == Decision(wanted, "asked for")


def test_a_gpu_says_what_it_can(monkeypatch):
    machine(monkeypatch, gpus=1)
    assert decide_precision("auto", CUDA, no_trial).choice == "bfloat16"
    machine(monkeypatch, gpus=1, bfloat16=False)
    assert decide_precision("auto", CUDA, no_trial) == Decision("float32", "this GPU has no bfloat16")
    with pytest.raises(MachineError, match="^Fast 9000 cannot compute in bfloat16; use precision float32$"):
        decide_precision("bfloat16", CUDA, no_trial)
    assert decide_precision("auto", MPS, no_trial) == Decision("float32", "the safe choice on MPS")


# Compilation.


def test_short_runs_are_not_compiled():
    off = Decision("off", "a run under 20 minutes does not earn it back")
    assert decide_compile("auto", CPU, 1199, no_trial) == off
    assert decide_compile("auto", CUDA, 299, no_trial).reason == "a run under 5 minutes does not earn it back"
    assert decide_compile("auto", MPS, 1e9, no_trial) == Decision("off", "not tried on mps")
    assert decide_compile("off", CPU, 1e9, no_trial) == Decision("off", "asked for")


@pytest.mark.parametrize(("plain", "compiled", "choice"), [(1.0, 0.5, "on"), (1.0, 0.95, "off"), (0.5, 1.0, "off")])
def test_long_runs_are_compiled_where_it_gains(monkeypatch, plain, compiled, choice):
    trial = Trial(monkeypatch, **{"False": plain, "True": compiled})
    decision = decide_compile("auto", CPU, 1200, trial)
    assert decision == Decision(choice, f"a trial compiled ran at {plain / compiled:.2f} x the plain speed")
    assert set(trial.runs) == {False, True}


def test_compilation_that_was_asked_for_is_only_made_sure_of(monkeypatch):
    trial = Trial(monkeypatch, **{"True": 9.0})
    assert decide_compile("on", CPU, 1.0, trial) == Decision("on", "asked for")
    assert trial.runs == [True]


@pytest.mark.parametrize("wanted", ["auto", "on"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("no C compiler\nwas found\n  at all"), "no C compiler"),
        (RuntimeError("\n\n  late\nwords"), "late"),
        (NotImplementedError(), "NotImplementedError"),
        (ImportError("no triton"), "no triton"),
        (
            AttributeError("'NoneType' object has no attribute 'codegen'"),
            "'NoneType' object has no attribute 'codegen'",
        ),
        (RuntimeError("x" * 500), "x" * 120),
    ],
)
def test_whatever_a_compiler_does_is_one_line_and_the_plain_way(wanted, error, words):
    def fail():
        raise error

    for trial in (lambda on: fail, lambda on: fail()):  # when it runs, or already when it is made
        decision = decide_compile(wanted, CPU, 1e9, trial)
        assert decision == Decision("off", f"torch.compile failed here ({words})")


def test_ctrl_c_in_a_compiler_is_no_failure_of_it():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decide_compile("on", CPU, 1e9, lambda on: interrupted)


# The trial itself.


def test_the_best_of_each_counts_and_the_first_does_not(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def taking(*seconds):
        left = list(seconds)

        def work():
            nonlocal now
            now += left.pop(0)

        return work

    # Warm-up, then runs in turn; the noise of a busy machine only ever adds.
    assert speed_ratio(taking(50, 0.4, 0.9, 0.7), taking(70, 0.3, 0.2, 8.0), lambda piece: 100.0) == pytest.approx(
        0.4 / 0.2
    )


def test_a_trial_is_short(monkeypatch):
    trial = Trial(monkeypatch, fast=0.001, slow=0.002, endless=60.0)
    speed_ratio(trial("fast"), trial("slow"))
    assert len(trial.runs) == 2 * 11
    trial.runs.clear()
    speed_ratio(trial("fast"), trial("endless"))
    assert len(trial.runs) == 2 * 3
    trial.runs.clear()
    speed_ratio(
        trial("fast"), trial("slow"), lambda piece: 500 * piece
    )  # 2 % of half a second: three in turn and a bit
    assert len(trial.runs) == 2 * 5
