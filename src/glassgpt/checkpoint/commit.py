"""The commit protocol: a folder is either whole or not there.

Files are written into a temporary sibling, each synced; the manifest of sizes and hashes comes last; then one rename makes
it visible, and the parent is synced so that the rename itself survives a power cut.
"""

import json
import shutil
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from glassgpt.config.plain import parse_json
from glassgpt.disk import TEMPORARY, make_folder, sha256_of, sync
from glassgpt.errors import CheckpointError, ConfigError

MANIFEST = "manifest.json"


def commit_folder(target: Path, writers: Mapping[str, Callable[[Path], object]], *, manifest: bool = True) -> None:
    """Make the folder `target` out of files, each written by its function. A committed folder is never overwritten. A
    folder for other programs goes without the manifest."""
    if target.exists() or target.is_symlink():
        raise CheckpointError(f"{target} is already there, and nothing is overwritten; choose another place")
    make_folder(target.parent)
    building = target.with_name(TEMPORARY + target.name)
    shutil.rmtree(building, ignore_errors=True)  # what a killed save left behind
    building.mkdir()
    try:
        written = {}
        for name, write in writers.items():
            write(building / name)
            sync(building / name)
            written[name] = {"bytes": (building / name).stat().st_size, "sha256": sha256_of(building / name)}
        if manifest:
            (building / MANIFEST).write_text(json.dumps(written, indent=1), encoding="utf-8")
            sync(building / MANIFEST)
            for name in written:  # safetensors' files are for nobody else to read
                (building / name).chmod((building / MANIFEST).stat().st_mode)
        sync(building)
        building.rename(target)
        try:
            sync(target.parent)
        except OSError:
            target.rename(building)  # a name that may not last is not given
            raise
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def require_free(out: Path) -> None:
    """Before any work is done for a folder that a person named."""
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} is already there, and nothing is overwritten; choose another --out")


def verify_folder(folder: Path, without: Container[str] = (), needed: Iterable[str] = ()) -> str | None:
    """Why `folder` is not whole, or None where every file has the size and hash of the manifest, which names those that are
    `needed`. Files in `without` are not looked at."""
    if not (folder / MANIFEST).is_file():
        return f"{MANIFEST} is missing"
    try:
        manifest = parse_json((folder / MANIFEST).read_text(encoding="utf-8"))
        for name in manifest:
            if Path(name).name != name or name in ("", ".."):
                return f"{MANIFEST} names {name!r:.60}, which is no file of this folder"
        for name in needed:
            if name not in manifest:
                return f"{MANIFEST} does not name {name}"
        for name, expected in manifest.items():
            if name in without:
                continue
            file = folder / name
            if not file.is_file():
                return f"{name} is {'no file' if file.exists() else 'missing'}"
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
            if sha256_of(file) != expected["sha256"]:
                return f"{name} is not what was written (its sha256 differs)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None


def remove_folder(folder: Path) -> None:
    """Rename first, so that a half-deleted folder is never taken for a whole one."""
    doomed = folder.with_name(TEMPORARY + folder.name)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    sync(folder.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def clear_unfinished(parent: Path) -> None:
    """Remove what saves and removals that were killed left in `parent`, where nothing may be written at the time. What they
    were about may never be saved again."""
    for left in parent.glob(f"{TEMPORARY}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.unlink()
