"""Signals: Ctrl-C, a polite kill and a closed terminal end the run after the step, saved."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """`signal_number` is 0 until somebody asks to stop."""

    signal_number = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stop_on_signal(tell: Callable[[], object]) -> Iterator[StopRequest]:
    """While open, the first SIGINT, SIGTERM or SIGHUP (a closed terminal) is only noted, and `tell` is called; the second
    acts at once.

    Outside the main thread, where Python cannot take signals, nothing is caught.
    """
    request = StopRequest()
    previous: dict[int, object] = {}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        signal.signal(number, previous[number])  # type: ignore[arg-type]
        tell()

    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # A signal that is ignored stays so: nohup, and what a shell starts in the background.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, note)
    except ValueError:
        pass
    try:
        yield request
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)  # type: ignore[arg-type]
