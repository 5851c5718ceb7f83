"""Ctrl-C, a polite kill and a closed terminal, all through a command but for the training loop, which takes them itself.

Outside that loop nothing is worth saving. What was begun is undone, one line is said, and the process is gone: no exception
is raised, since one that appears in the middle of `import torch`, or of a call from compiled code back into Python, comes
out as another one, as a warning, or not at all. Imports nothing but Python's own, for it is loaded before everything else.
"""

import _thread
import atexit
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from glassgpt.errors import Stopped

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# Python's own handlers wait for the main thread, which may be in one call of compiled code for minutes (learning a
# vocabulary, sorting, a backward pass). After so many seconds a second thread does its work.
PATIENCE = 0.15
# Whoever stands between a terminal and a process may pass on the Ctrl-C that has reached it already: not yet a second one.
ECHO = 0.3
FLUSH_SECONDS = 0.3  # the reader of our output may have stopped reading


class _State:
    raises = False  # whether a signal raises an exception instead of leaving
    raised = False
    began = math.inf  # time.monotonic, when leaving began
    leader = 0  # the thread that does it
    in_loop = False  # whether the training loop takes the signals
    first_in_loop = math.inf  # when the first one came there
    heard_in_loop = False  # whether its handlers have run since


_undoings: list[Callable[[], object]] = []
_leaving = _thread.allocate_lock()


def heed() -> None:
    """Take the signals that are not ignored: under nohup, or in the background, they stay so. On Windows, where there is
    only Ctrl-C, Python's own KeyboardInterrupt does."""
    if os.name == "nt":
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    for name in NAMES:
        if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), _on_signal)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _thread.start_new_thread(_watch, (read,))


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """While open, `undo` is called before a signal ends the process; perhaps from another thread, so it takes no locks."""
    _undoings.append(undo)
    try:
        yield
    finally:
        _undoings.remove(undo)


@contextmanager
def unwinding() -> Iterator[None]:
    """While open, a signal raises KeyboardInterrupt or Stopped: for work that cleans up after itself in `finally`."""
    before, _State.raises = _State.raises, True
    try:
        yield
    finally:
        _State.raises = before or _State.raised


@contextmanager
def training() -> Iterator[None]:
    """While open, the training loop has handlers of its own. The second thread only sees to it that a second signal is heard
    where the loop cannot hear it: in one long call of compiled code, during which Python makes one of two."""
    _State.in_loop, _State.first_in_loop, _State.heard_in_loop = True, math.inf, False
    try:
        yield
    finally:
        _State.in_loop = False


def heard() -> None:
    """Called by the training loop's own handlers, which may have had to wait for a long call of compiled code to end."""
    _State.heard_in_loop = True


def leave(code: int) -> NoReturn:
    """End the process once all is said and done, without taking apart what was loaded: torch needs up to a second for that.
    The signals are deaf by then, or a command that has done its work would seem killed."""
    for name in NAMES:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # what could not be written has been said, and perhaps to a reader that has gone
            stream.flush()
    os._exit(code)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if not _State.raises:
        _leave(number, time.monotonic())
        return
    _State.raised = True
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped("stopped by a signal", number)


def _watch(pipe: int) -> None:
    """The second thread: Python writes the number of every signal to this pipe as soon as it arrives."""
    while received := os.read(pipe, 1):
        arrived = time.monotonic()
        if _State.in_loop:
            if arrived - _State.first_in_loop > ECHO:
                _thread.start_new_thread(_leave, (received[0], arrived))
            if _State.first_in_loop == math.inf:
                _thread.start_new_thread(_acknowledge, ())
            _State.first_in_loop = min(_State.first_in_loop, arrived)
            continue
        time.sleep(PATIENCE)
        if not _State.raises and signal.getsignal(received[0]) is _on_signal:
            _thread.start_new_thread(_leave, (received[0], arrived))


def _acknowledge() -> None:
    """That a stop is coming, where the loop cannot say so itself yet: whoever hears nothing asks again, and loses a step."""
    time.sleep(PATIENCE)
    if _State.in_loop and not _State.heard_in_loop:
        with suppress(OSError):
            os.write(
                2, b"\nglassgpt: stopping once the computation under way is done; once more stops at once, unsaved\n"
            )


def _leave(number: int, arrived: float) -> None:
    if not _leaving.acquire(blocking=False):
        if arrived - _State.began > ECHO:
            os._exit(128 + number)
        while _State.leader != _thread.get_ident():  # nothing more is done here: what is being undone stays undone
            time.sleep(1)
        return
    _State.leader, _State.began = _thread.get_ident(), time.monotonic()
    for undo in reversed(_undoings):
        with suppress(Exception):
            undo()
    _flush()
    words = "stopped by Ctrl-C" if number == signal.SIGINT else "stopped by a signal"
    with suppress(OSError):
        # A progress bar hides the cursor. Not through sys.stderr, which may hold half a line.
        shown = "\x1b[?25h\n" if os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb" else ""
        os.write(2, f"{shown}glassgpt: {words}\n".encode())
    os._exit(128 + number)


def _flush() -> None:
    """What was printed to standard output is not lost. In another thread, for this one may be inside a print."""
    done = _thread.allocate_lock()
    done.acquire()

    def flush() -> None:
        with suppress(Exception):
            sys.stdout.flush()
        done.release()

    _thread.start_new_thread(flush, ())
    done.acquire(timeout=FLUSH_SECONDS)
