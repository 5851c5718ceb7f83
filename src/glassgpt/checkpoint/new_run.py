"""The folder of a run that begins: where it may be made, and its name where nobody gave it one."""

import os
import re
from pathlib import Path

from glassgpt.checkpoint.run import LOCK, RUNS, Run
from glassgpt.disk import TEMPORARY, make_folder, sync
from glassgpt.errors import ConfigError, MachineError


def check_new_run(folder: Path | None) -> None:
    """Whether `create_run` will be able to make its folder, before any work is done. Raises as it does."""
    if folder is not None and (folder.exists() or folder.is_symlink()) and not is_empty(folder):
        raise ConfigError(
            f"{folder} is already there, and a run is never overwritten; choose another --out, or resume it"
        )
    wanted = folder or RUNS
    nearest = next(place for place in (wanted, *wanted.absolute().parents) if place.exists() or place.is_symlink())
    if not nearest.is_dir():
        raise MachineError(f"{wanted} cannot be made: {nearest} is no folder; choose another place with --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise MachineError(f"{wanted} cannot be made: {nearest} cannot be written to; choose another place with --out")


def is_empty(folder: Path) -> bool:
    """Also where a run was killed between its folder and its settings."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    return all(entry.name == LOCK or entry.name.startswith(TEMPORARY) for entry in folder.iterdir())


def create_run(folder: Path | None, name: str) -> Run:
    """A new run folder: the one that was asked for, or the next free `runs/NAME-N`. An existing one is refused."""
    check_new_run(folder)
    try:
        if folder is not None:
            make_folder(folder)
            return Run(folder)
        make_folder(RUNS)
        return _next_run(name)
    except OSError as error:
        raise MachineError(
            f"{folder or RUNS} cannot be made ({error.strerror}); choose another place with --out"
        ) from None


def _next_run(name: str) -> Run:
    taken = [
        int(match[1]) for entry in RUNS.iterdir() if (match := re.fullmatch(re.escape(name) + r"-(\d+)", entry.name))
    ]
    number = max(taken, default=0) + 1
    while True:
        folder = RUNS / f"{name}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:  # another run was quicker
            number += 1
            continue
        sync(RUNS)
        return Run(folder)
