"""What it takes to be sure of a file: that there was room for it, that it is on the disk, and what was written."""

import errno
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glassgpt.errors import MachineError
from glassgpt.signals import undone

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".writing-"  # before the name of what is being written, or removed


class DiskError(MachineError):
    """What could not be written, and why; where there is no room, how many bytes it needs and how many are free. `short` says
    no more than the first two."""

    def __init__(
        self, path: Path, problem: OSError, needed: int = 0, *, kind: str = "", about: str = "", elsewhere: str = ""
    ) -> None:
        """`kind` stands before the path; `about` before the bytes, where they are an estimate (0: not known); `elsewhere` is
        what to do where nothing can be done there."""
        limit = "; ulimit -f, or the file system, sets how large" if problem.errno == errno.EFBIG else ""
        self.short = f"{kind}{path} could not be written ({problem.strerror or problem}{limit})"
        if is_full(problem):
            nearest = next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())
            free = f"{shutil.disk_usage(nearest).free:,}"
            room = f"{about}{needed:,} bytes are needed, {free} are free" if needed else f"{free} bytes are free"
            advice = "raise that limit" if problem.errno == errno.EFBIG else "make room"
            super().__init__(f"{self.short}: {room}; {advice}{elsewhere and f', or {elsewhere}'}")
        elif problem.errno == errno.ENOENT and not path.parent.exists() and not elsewhere:
            super().__init__(
                f"{self.short}: there is no folder {path.parent}; bring it back where it was moved, or make it"
            )
        else:
            super().__init__(f"{self.short}; {elsewhere or 'check the disk, and your right to write there'}")


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of entries, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder to sync it
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        _flush(handle)
    except OSError as problem:
        if not (path.is_dir() and problem.errno == errno.EINVAL):  # some network file systems sync no folders
            raise
    finally:
        os.close(handle)


def _flush(handle: int) -> None:
    """On macOS, fsync stops at the drive's own cache, which a power cut empties; what goes on from there is F_FULLFSYNC
    (fsync(2) of macOS), where the file system has it."""
    if full := getattr(fcntl, "F_FULLFSYNC", None):
        try:
            fcntl.fcntl(handle, full)
            return
        except OSError as problem:
            if problem.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(handle)


def replace_file(path: Path, content: bytes, *, shared: bool = False, elsewhere: str = "") -> None:
    """Write a small file in one step: readers see the old content or the new one, whole. `shared`: other processes may write
    the same file at the same time. Raises DiskError where it cannot be, with `elsewhere`."""
    building = path.with_name(TEMPORARY + path.name + (f".{os.getpid()}" if shared else ""))

    def remove() -> None:
        with suppress(OSError):
            building.unlink(missing_ok=True)

    with undone(remove):
        try:
            building.write_bytes(content)
            sync(building)
            for wait in (0.05, 0.2, 0.8, None):
                try:
                    building.replace(path)
                    break
                except PermissionError:  # Windows, while somebody reads the old file
                    if wait is None:
                        raise
                    time.sleep(wait)
            sync(path.parent)
        except OSError as error:
            remove()
            raise DiskError(path, error, len(content), elsewhere=elsewhere) from error


def make_folder(path: Path) -> None:
    """As `mkdir -p`; every name that had to be made is on the disk then."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


@contextmanager
def working_folder(folder: Path, mode: int = 0o777) -> Iterator[Path]:
    """Make a new folder to work in, with its parents; gone at the end, whatever ends the work, unless it was renamed."""

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    with undone(remove):
        try:
            make_folder(folder.parent)
            folder.mkdir(mode)
            yield folder
        finally:
            remove()


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """As `tempfile.TemporaryDirectory`; a signal cannot come between its making and whoever removes it."""
    with working_folder(Path(tempfile.gettempdir()) / f"{name}-{uuid.uuid4().hex[:12]}", 0o700) as folder:
        yield folder


def sha256_of(path: Path) -> str:
    """In hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(folder: Path) -> int:
    """Bytes of its files; of one that is being removed, of those that are there yet."""
    bytes_found = 0
    with suppress(FileNotFoundError):
        for file in folder.iterdir():
            bytes_found += file.stat().st_size
    return bytes_found


def is_full(problem: OSError) -> bool:
    """Whether there is no room left, on the disk or in what this user may fill of it, also with one file."""
    return problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def as_argument(path: Path | str) -> str:
    """A path, or a text, as one writes it in a shell."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))
