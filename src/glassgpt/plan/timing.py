"""How long a piece of work takes, done a few times: less often than in training's trials, which have seconds for it."""

import time
from collections.abc import Callable


def seconds_of(work: Callable[[], object], enough: float = 0.03) -> float:
    """The best of two, or of as many as take `enough` seconds; the first also pays for memory and kernels."""
    seconds = [timed(work), timed(work)]
    while sum(seconds) < enough:
        seconds.append(timed(work))
    return min(seconds)


def both(small: Callable[[], object], large: Callable[[], object]) -> tuple[float, float]:
    """The best of two of each, after one that also pays for memory and kernels."""
    small(), large()
    seconds = [(timed(small), timed(large)) for _ in range(2)]
    return min(s for s, _ in seconds), min(s for _, s in seconds)


def quick_ratio(
    plain: Callable[[], object], other: Callable[[], object], run_seconds: Callable[[float], float]
) -> float:
    """How many times faster `other` is, from one run of each (`machine.decide.speed_ratio`); `plain` has run before."""
    other()
    return timed(plain) / timed(other)


def timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before
