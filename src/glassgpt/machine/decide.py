"""Device, precision, compilation and threads: each decision with its reason."""

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from glassgpt.errors import ConfigError, MachineError

# Below this a difference is noise, and the plain way is kept: it is the more exact and the better understood one.
WORTH_IT = 1.15
# Beyond two rounds of each, a trial takes so long at most, and so much of the run at most.
TRIAL_SECONDS, TRIAL_SHARE = 1.5, 0.02
# Loading what bfloat16 needs, and trying it, takes a quarter of a second; of models that are trained so soon it is slower.
PRECISION_FROM_SECONDS = 20.0
# Compilation takes half a minute to two on a CPU; a run has to be long enough to earn that back.
COMPILE_FROM_SECONDS = {"cuda": 300.0, "cpu": 1200.0}

# How many times faster the second of two pieces of work is, in a run as long as the function of a piece's seconds says.
Ratio = Callable[[Callable[[], object], Callable[[], object], Callable[[float], float]], float]


class Decision(NamedTuple):
    choice: str
    reason: str


def decide_device(wanted: str = "auto") -> Decision:
    """`wanted` is auto, cpu, mps, cuda or cuda:N. Raises MachineError where this machine lacks it."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return Decision("cuda", torch.cuda.get_device_name())
        if torch.backends.mps.is_available():
            return Decision("mps", "Apple GPU")
        return Decision("cpu", "no CUDA or MPS device")
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]+)?", wanted):
        raise ConfigError(f"device {wanted!r} is not known; it is auto, cpu, mps, cuda, or cuda:N")
    kind, _, index = wanted.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            f"device {wanted} was asked for, but torch {torch.__version__} sees no CUDA device here; use cpu"
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise MachineError(
            f"device {wanted} was asked for; this machine has {torch.cuda.device_count()}, counted from 0"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MachineError("device mps was asked for, but there is no Apple GPU here; use cpu")
    return Decision(wanted, "asked for")


def decide_threads(wanted: int = 0) -> int:
    """CPU threads that torch uses from now on; more than there are cores is refused."""
    cores = os.cpu_count() or 1
    if wanted > cores:
        raise ConfigError(
            f"threads is {wanted}; this machine has {cores} cores, and more threads only wait for each other; "
            "lower it (of a run: glassgpt resume --threads N)"
        )
    if wanted:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()


@contextmanager
def threads_restored() -> Iterator[None]:
    """Whatever number of threads was decided meanwhile, torch has the one of before at the end."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def decide_precision(
    wanted: str,
    device: torch.device,
    trial: Callable[[str], Callable[[], object]],
    run_seconds: Callable[[float], float] = lambda piece: math.inf,
    ratio: Ratio | None = None,
) -> Decision:
    """float32 or bfloat16 for matrix products. `trial(precision)` gives a function that does one typical piece of work;
    `run_seconds` says how long the whole run takes where one piece takes so many seconds; `ratio` compares (speed_ratio)."""
    if wanted != "auto":
        if (
            wanted == "bfloat16"
            and device.type == "cuda"
            and not torch.cuda.is_bf16_supported(including_emulation=False)
        ):
            raise MachineError(
                f"{torch.cuda.get_device_name(device)} cannot compute in bfloat16; use precision float32"
            )
        return Decision(wanted, "asked for")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Decision("bfloat16", "this GPU computes in it")
        return Decision("float32", "this GPU has no bfloat16")
    if device.type == "mps":
        return Decision("float32", "the safe choice on MPS")
    plain = trial("float32")
    plain()
    before = time.perf_counter()
    plain()
    seconds = run_seconds(time.perf_counter() - before)
    if seconds < PRECISION_FROM_SECONDS:
        return Decision("float32", f"a run of {seconds:.0f} s would be over before a trial had paid")
    gain = (ratio or speed_ratio)(plain, trial("bfloat16"), run_seconds)
    choice = "bfloat16" if gain >= WORTH_IT else "float32"
    return Decision(choice, f"a trial in bfloat16 ran at {gain:.2f} x the speed of float32")


def decide_replicas(
    count: int,
    trial: Callable[[int], Callable[[], object]],
    run_seconds: Callable[[float], float],
    ratio: Ratio | None = None,
) -> Decision:
    """`count` replicas of the model with a thread each, or one that has all threads. `trial(count)` gives a function that does
    one typical piece of work with so many."""
    gain = (ratio or speed_ratio)(trial(1), trial(count), run_seconds)
    return Decision(
        str(count if gain >= WORTH_IT else 1), f"a trial ran at {gain:.2f} x the speed of one with all threads"
    )


def decide_compile(
    wanted: str, device: torch.device, expected_seconds: float, trial: Callable[[bool], Callable[[], object]]
) -> Decision:
    """on or off. `trial(compiled)` gives a function that does one typical piece of work.

    Whatever goes wrong in a compiler is one line and the plain way, never a crash.
    """
    if wanted == "off":
        return Decision("off", "asked for")
    threshold = COMPILE_FROM_SECONDS.get(device.type)
    if wanted == "auto" and threshold is None:
        return Decision("off", f"not tried on {device.type}")
    if wanted == "auto" and threshold is not None and expected_seconds < threshold:
        return Decision("off", f"a run under {threshold / 60:.0f} minutes does not earn it back")
    try:
        compiled = trial(True)
        compiled()
        if wanted == "on":
            return Decision("on", "asked for")
        gain = speed_ratio(trial(False), compiled)
    except Exception as error:  # torch.compile fails in as many ways as there are compilers
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Decision("off", f"torch.compile failed here ({first_line[:120]})")
    choice = "on" if gain >= WORTH_IT else "off"
    return Decision(choice, f"a trial compiled ran at {gain:.2f} x the plain speed")


def speed_ratio(
    plain: Callable[[], object],
    other: Callable[[], object],
    run_seconds: Callable[[float], float] = lambda piece: math.inf,
) -> float:
    """How many times faster `other` is: best time of each, run in turn after one warm-up, for TRIAL_SECONDS or TRIAL_SHARE of
    a run that is short.

    The best and not the mean, because a noisy machine only ever adds time.
    """
    times: tuple[list[float], list[float]] = ([], [])
    plain(), other()
    begin = time.perf_counter()
    while len(times[0]) < 2 or (
        len(times[0]) < 10
        and time.perf_counter() - begin < min(TRIAL_SECONDS, TRIAL_SHARE * run_seconds(min(times[0])))
    ):
        for run, seconds in zip((plain, other), times, strict=True):
            before = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - before)
    return min(times[0]) / min(times[1])
