"""What a piece of work does to the disk, as the kernel is asked for it: by Python, by C or by Rust, in any thread.

The work runs in a forked child that ends without cleaning up; the parent stops it at every system call (ptrace(2)). Only on
Linux, x86_64 and aarch64, and only where that is allowed: see `available`.
"""

import ctypes
import os
import platform
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TIME_LIMIT = 60  # seconds for one child, which a lock that was held while it was forked would stop for ever

# From linux/ptrace.h. PTRACE_GET_SYSCALL_INFO says the same on every processor, from Linux 5.3 on.
TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
TRACESYSGOOD, TRACECLONE, EXITKILL = 0x1, 0x8, 0x100000
ENTRY, EXIT = 1, 2
SIGTRAP = 5  # Windows, which imports this too, has no name for it
SYSCALL_STOP = SIGTRAP | 0x80
ANY_THREAD = 0x40000000  # __WALL
MAY_NOT = 99  # the exit code of a child that may not be traced
AT_FDCWD, AT_REMOVEDIR = -100, 0x200
PROT_WRITE, MAP_SHARED, MAP_ANONYMOUS = 0x2, 0x1, 0x20
PAGE = 4096

# What we call it, its numbers (asm/unistd_64.h; asm-generic/unistd.h, which has no old-style calls), and where its files are:
# an argument that is an open file, a path, or an open folder and after it a path from there ("at").
CALLS = {
    "write": ("write", 1, 64, ["file 0"]),
    "pwrite64": ("write", 18, 68, ["file 0"]),
    "writev": ("write", 20, 66, ["file 0"]),
    "pwritev": ("write", 296, 70, ["file 0"]),
    "pwritev2": ("write", 328, 287, ["file 0"]),
    "sendfile": ("write", 40, 71, ["file 0"]),
    "splice": ("write", 275, 76, ["file 2"]),
    "copy_file_range": ("write", 326, 285, ["file 2"]),
    "mmap": ("write", 9, 222, ["file 4"]),
    "truncate": ("write", 76, 45, ["path 0"]),
    "ftruncate": ("write", 77, 46, ["file 0"]),
    "fallocate": ("write", 285, 47, ["file 0"]),
    "open": ("open", 2, None, ["path 0"]),
    "creat": ("create", 85, None, ["path 0"]),
    "openat": ("open", 257, 56, ["at 0"]),
    "openat2": ("open", 437, 437, ["at 0"]),
    "fsync": ("sync", 74, 82, ["file 0"]),
    "fdatasync": ("sync", 75, 83, ["file 0"]),
    "rename": ("rename", 82, None, ["path 0", "path 1"]),
    "renameat": ("rename", 264, 38, ["at 0", "at 2"]),
    "renameat2": ("rename", 316, 276, ["at 0", "at 2"]),
    "link": ("link", 86, None, ["path 0", "path 1"]),
    "linkat": ("link", 265, 37, ["at 0", "at 2"]),
    "symlink": ("symlink", 88, None, ["path 1"]),
    "symlinkat": ("symlink", 266, 36, ["at 1"]),
    "mkdir": ("mkdir", 83, None, ["path 0"]),
    "mkdirat": ("mkdir", 258, 34, ["at 0"]),
    "unlink": ("unlink", 87, None, ["path 0"]),
    "rmdir": ("rmdir", 84, None, ["path 0"]),
    "unlinkat": ("unlink", 263, 35, ["at 0"]),
}
COLUMN = {"x86_64": 1, "aarch64": 2}.get(platform.machine())
NUMBERS = {row[COLUMN]: call for call, row in CALLS.items() if row[COLUMN] is not None} if COLUMN else {}


class SyscallInfo(ctypes.Structure):
    """struct ptrace_syscall_info, the part that both kinds of stop share and what follows at an entry."""

    _fields_ = (
        ("kind", ctypes.c_uint8),
        ("architecture", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number_or_result", ctypes.c_int64),
        ("arguments", ctypes.c_uint64 * 6),
    )


@dataclass(frozen=True)
class Call:
    name: str  # write, create, open (for writing, what is there), sync, rename, link, symlink, mkdir, unlink, rmdir
    paths: tuple[Path, ...]  # one; of rename and link the old name and the new one


def trace(work: Callable[[], object], below: Path) -> list[Call]:
    """What `work` changed or synced in the folder `below`, in the order begun; what the kernel refused is left out."""
    calls, _ = follow(work, below, None)
    return calls


def run_and_die(work: Callable[[], object], below: Path, n: int) -> bool:
    """Kill `work` where it asks for its n-th such call, 1 being the first, before that takes effect. False where it came to
    its end first."""
    _, died = follow(work, below, n)
    return died


@cache
def available() -> bool:
    """Whether this machine lets us trace."""
    try:
        return sys.platform == "linux" and COLUMN is not None and trace(lambda: None, Path("/")) == []
    except OSError:
        return False


def follow(work: Callable[[], object], below: Path, death: int | None) -> tuple[list[Call], bool]:
    """What was done, and whether the child was killed at the call of number `death`."""
    calls: list[Call | None] = []
    inside: dict[int, int] = {}  # thread -> the place in `calls` of the one that it waits for
    with child_of(work) as stops:
        for thread, stop in stops:
            if stop != SYSCALL_STOP:
                # Threads begin with SIGSTOP, and ptrace speaks through SIGTRAP; whatever else comes is for the work.
                resume(thread, 0 if stop in (signal.SIGSTOP, SIGTRAP) else stop)
                continue
            info = SyscallInfo()
            try:
                ptrace(GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info))
            except ProcessLookupError:  # it stood still, and the end of its process took it along
                continue
            if info.kind == ENTRY and (call := read_call(thread, info.number_or_result, list(info.arguments), below)):
                inside[thread] = len(calls)
                calls.append(call)
                if len(calls) == death:
                    return [], True
            elif info.kind == EXIT and (place := inside.pop(thread, None)) is not None and info.number_or_result < 0:
                calls[place] = None
            resume(thread)
    return [call for call in calls if call is not None], False


@contextmanager
def child_of(work: Callable[[], object]) -> Iterator[Iterator[tuple[int, int]]]:
    """The stops of a child that does `work`: which thread, and the signal. A child that has not ended by itself is killed.

    Raises OSError where it may not be traced, RuntimeError where the work fails.
    """
    child = start(work)
    ended = False

    def stops() -> Iterator[tuple[int, int]]:
        nonlocal ended
        while True:
            thread, status = os.waitpid(-child, ANY_THREAD)  # its process group: no other child of ours is meant
            if os.WIFSTOPPED(status):
                yield thread, os.WSTOPSIG(status)
            elif thread == child:
                ended = True
                if status:
                    code = os.waitstatus_to_exitcode(status)
                    if code == MAY_NOT:
                        raise OSError("tracing is not allowed here")
                    raise RuntimeError(f"the work ended with {code}; the reason is on standard error")
                return

    try:
        running = stops()
        next(running)
        ptrace(SETOPTIONS, child, 0, TRACESYSGOOD | TRACECLONE | EXITKILL)
        resume(child)
        yield running
    finally:
        if not ended:
            os.kill(child, signal.SIGKILL)
            with suppress(RuntimeError):
                for _ in stops():
                    pass


def start(work: Callable[[], object]) -> int:
    """A child, stopped before `work`."""
    with warnings.catch_warnings():
        # Other threads may hold locks, says Python from 3.12 on. What is traced takes none of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        with suppress(OSError):  # both do it, and neither has to wait for the other
            os.setpgid(child, child)
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(TIME_LIMIT)
        code = MAY_NOT
        ptrace(TRACEME, 0, 0, 0)
        code = 1
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def read_call(thread: int, number: int, arguments: list[int], below: Path) -> Call | None:
    """What a thread asks for, where it changes or syncs something in `below`."""
    if number not in NUMBERS:
        return None
    system_call = NUMBERS[number]
    name, *_, places = CALLS[system_call]
    if system_call == "mmap" and not (
        arguments[2] & PROT_WRITE and arguments[3] & MAP_SHARED and not arguments[3] & MAP_ANONYMOUS
    ):
        return None
    if name == "open":
        if system_call == "openat2":
            flags = int.from_bytes(memory(thread, arguments[2], 8), sys.byteorder)
        else:
            flags = arguments[1 if system_call == "open" else 2]
        if flags & os.O_CREAT:
            name = "create"
        elif not flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            return None
    if system_call == "unlinkat" and arguments[2] & AT_REMOVEDIR:
        name = "rmdir"
    try:
        paths = tuple(read_path(thread, arguments, place) for place in places)
    except OSError:  # no such open file; the kernel will say so too
        return None
    return Call(name, paths) if any(path.is_relative_to(below) for path in paths) else None


def read_path(thread: int, arguments: list[int], place: str) -> Path:
    kind, at = place.split()
    argument = arguments[int(at)]
    folder = ctypes.c_int(argument).value if kind != "path" else AT_FDCWD
    if kind == "file":
        return Path(f"/proc/{thread}/fd/{folder}").readlink()
    base = Path(f"/proc/{thread}/cwd" if folder == AT_FDCWD else f"/proc/{thread}/fd/{folder}").readlink()
    name = text(thread, arguments[int(at) + (kind == "at")])
    return Path(os.path.normpath(base / name))


def text(thread: int, address: int) -> str:
    """The string there, read page by page: the one after its last need not exist."""
    content = b""
    while b"\0" not in content:
        start = address + len(content)
        content += memory(thread, start, PAGE - start % PAGE)
    return os.fsdecode(content.split(b"\0")[0])


def memory(thread: int, address: int, length: int) -> bytes:
    handle = os.open(f"/proc/{thread}/mem", os.O_RDONLY)
    try:
        return os.pread(handle, length, address)
    finally:
        os.close(handle)


def resume(thread: int, stop: int = 0) -> None:
    with suppress(ProcessLookupError):  # another thread has ended them all
        ptrace(SYSCALL, thread, 0, stop)


@cache
def libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.restype = ctypes.c_long
    library.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    return library


def ptrace(request: int, thread: int, address: int, data: int) -> None:
    if libc().ptrace(request, thread, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
