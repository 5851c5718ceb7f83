"""What may end or disturb a run from outside: signals, and memory that is not there."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from glassgpt.signals import ECHO, NAMES, heard, training


class Interrupted(BaseException):
    """A signal came while nothing was under way that could be lost. No Exception: what fails on the way may be forgiven,
    this not."""


class StopRequest:
    """`signal_number` is 0 until somebody asks to stop."""

    def __init__(self) -> None:
        self.signal_number = 0
        self.acts_at_once = False

    def __bool__(self) -> bool:
        return self.signal_number != 0

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While open, a request to stop raises Interrupted wherever the program is: for validation and samples, which may
        last, and which a resumed run does again."""
        self.acts_at_once = True
        try:
            if self:
                raise Interrupted
            yield
        finally:
            self.acts_at_once = False


@contextmanager
def stop_on_signal(tell: Callable[[], object]) -> Iterator[StopRequest]:
    """While open, the first SIGINT, SIGTERM or SIGHUP (a closed terminal) is only noted, and `tell` is called; the second
    does what it would have done before.

    Outside the main thread, where Python cannot take signals, nothing is caught.
    """
    request = StopRequest()
    previous: dict[int, Any] = {}
    noted = math.inf

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        heard()
        if request:
            if time.monotonic() - noted > ECHO:
                act(number, frame)
            return
        request.signal_number, noted = number, time.monotonic()
        with suppress(RuntimeError):  # it came in the middle of a print, and another cannot begin there
            tell()
        if request.acts_at_once:
            raise Interrupted

    def act(number: int, frame: FrameType | None) -> None:
        signal.signal(number, previous[number])
        if callable(previous[number]):
            previous[number](number, frame)
        else:
            signal.raise_signal(number)

    try:
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # A signal that is ignored stays so: nohup, and what a shell starts in the background.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, note)
    except ValueError:
        pass
    try:
        with training():
            yield request
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)


def smaller_micro_batch(micro_batch_size: int, batch_size: int) -> int:
    """At most half of it, and still a divisor of the batch; 0 where there is nothing smaller."""
    return next((size for size in range(micro_batch_size // 2, 0, -1) if batch_size % size == 0), 0)
