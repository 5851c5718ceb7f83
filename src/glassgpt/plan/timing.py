"""How long a piece of work takes, done a few times: less often than in training's trials, which have seconds for it."""

import time
from collections.abc import Callable

from glassgpt.machine.decide import WORTH_IT


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


class Decided:
    """What decides about precision and replicas in training does so here, from one run of each way that was not timed yet.
    `seconds`: of the way that was decided for, once there is one."""

    def __init__(self, run_seconds: Callable[[float], float]) -> None:
        self.of_run = run_seconds
        self.seconds: float | None = None

    def run_seconds(self, piece: float) -> float:
        """In the place of the trial's own, which hears how long the plain way takes."""
        self.seconds = piece
        return self.of_run(piece)

    def ratio(
        self, plain: Callable[[], object], other: Callable[[], object], run_seconds: Callable[[float], float]
    ) -> float:
        """In the place of `machine.decide.speed_ratio`; `plain` is the way that was decided for before."""
        assert self.seconds is not None
        before = self.seconds
        other()
        ratio = before / timed(other)
        if ratio >= WORTH_IT:
            self.seconds = before / ratio
        return ratio


def timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before
