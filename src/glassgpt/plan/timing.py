"""How long a piece of work takes, done a few times: less often than in training's trials, which have seconds for it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from glassgpt.machine.decide import WORTH_IT, Ratio

CLOSE = 1.2  # one timing beside another is off by so much at most, on a machine with little else to do
SHORT = (
    0.08  # seconds for which short pieces are compared again and again: one timing of a few milliseconds says little
)


def seconds_of(work: Callable[[], object], enough: float = 0.03) -> float:
    """The best of two, or of as many as take `enough` seconds; the first also pays for memory and kernels."""
    best, done, spent = math.inf, 0, 0.0
    while done < 2 or spent < enough:
        seconds = timed(work)
        best, done, spent = min(best, seconds), done + 1, spent + seconds
    return best


def warm_seconds_of(work: Callable[[], object], enough: float = 0.0) -> float:
    """The same after one that pays for memory and kernels."""
    work()
    return seconds_of(work, enough)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """`step`: seconds of one optimizer update; `parts`: what they go to, where that was measured one by one; `gains`: how many
    times faster bfloat16 and replicas were, where that decided."""

    step: float
    precision: str
    replicas: int
    parts: dict[str, float]
    gains: dict[str, float] = field(default_factory=dict)


class Decided:
    """What decides about precision and replicas in training does so here, from one run of each way that was not timed yet;
    from two where the other way would be refused narrowly, and from more where they are short. `seconds`: of the way that was
    decided for, once there is one; `gains`: how many times faster each other way was."""

    def __init__(self, run_seconds: Callable[[float], float]) -> None:
        self.of_run = run_seconds
        self.seconds: float | None = None
        self.gains: dict[str, float] = {}

    def run_seconds(self, piece: float) -> float:
        """In the place of the trial's own, which hears how long the plain way takes."""
        self.seconds = piece
        return self.of_run(piece)

    def ratio_of(self, way: str) -> Ratio:
        """In the place of `machine.decide.speed_ratio`; `plain` is the way that was decided for before."""

        def ratio(plain: Callable[[], object], other: Callable[[], object], _: Callable[[float], float]) -> float:
            self.gains[way] = self._ratio(plain, other)
            return self.gains[way]

        return ratio

    def _ratio(self, plain: Callable[[], object], other: Callable[[], object]) -> float:
        assert self.seconds is not None
        other()
        of_other = timed(other)
        is_close = WORTH_IT / CLOSE < self.seconds / of_other < WORTH_IT
        for _ in range(max(is_close, int(SHORT / (self.seconds + of_other)))):
            self.seconds, of_other = min(self.seconds, timed(plain)), min(of_other, timed(other))
        ratio = self.seconds / of_other
        if ratio >= WORTH_IT:
            self.seconds = of_other
        return ratio


def timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before
