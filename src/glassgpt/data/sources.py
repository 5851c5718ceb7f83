"""What a source means: files, folders, globs, standard input and built-in names become a list of files.

Rules. A bare built-in name is the built-in corpus, always: `./python` is the folder. Then what exists as a path is a path,
and anything else a glob. In a folder every text file counts, whatever its suffix, in the order of its relative path; hidden
names and `__pycache__` do not; folders behind links are not entered, so that a loop of links ends. What GlassGPT itself wrote
(prepared folders, runs, checkpoints) is no text: left out where it is found, refused where it is named. A file that was
named itself must be readable text, one that was found in a folder or by a glob is skipped with its reason. A file reached
twice counts once.
"""

import difflib
import glob
import hashlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from glassgpt.data.builtin import (
    BUILTIN_NAMES,
    PYTHON_FOLDERS_LEFT_OUT,
    is_python_corpus,
    shakespeare_path,
    standard_library,
)
from glassgpt.disk import DiskError, is_full
from glassgpt.errors import DataError

NEVER_ENTERED = frozenset({"__pycache__"})
NO_PATHS = ("", "-", *BUILTIN_NAMES)  # sources that mean no path, whatever the current folder holds

PREPARED = "a prepared folder"
HALF_PREPARED = "what a preparation that was killed has left"
OURS = {  # what GlassGPT wrote -> what to do with it instead of reading it as text
    PREPARED: "train on it alone: glassgpt train {source}, or name the text that it was made of",
    HALF_PREPARED: "delete it, and name the text that it was to be made of",
    "a run": "sample from it or resume it, or name the text that it was trained on",
    "a checkpoint": "sample from it, or name the text that it was trained on",
}


@dataclass(frozen=True)
class Skipped:
    name: str
    reason: str


@dataclass(frozen=True)
class TextFile:
    name: str  # relative to the folder that was named, forward slashes: the same on every machine
    path: Path
    named: bool  # by the user, as opposed to found


def list_files(sources: Sequence[str], spool: Path) -> tuple[list[TextFile], list[Skipped]]:
    """Every file that the sources mean, each once, in the order of the sources; nothing is opened but streams, which are
    copied into the folder `spool`. Raises DataError for a source that is missing or no text."""
    skipped: list[Skipped] = []
    found: dict[str, TextFile] = {}  # by real path
    for source in sources:
        for file in files_of(source, spool, skipped):
            real = os.path.realpath(file.path)
            if real not in found or file.named:
                found[real] = file
    return list(found.values()), list(dict.fromkeys(skipped))


def files_of(source: str, spool: Path, skipped: list[Skipped]) -> Iterator[TextFile]:
    if source == "":
        raise DataError("an empty name is no source; name a file, a folder (. is the current one), a glob or -")
    if source == "-":
        yield TextFile("stdin", spooled(None, spool / "stdin"), named=True)
    elif source == "python":
        library = walk(standard_library(), [], NEVER_ENTERED | PYTHON_FOLDERS_LEFT_OUT)
        yield from (file for file in library if is_python_corpus(file.name))
    elif source == "shakespeare":
        yield TextFile("tinyshakespeare.txt", shakespeare_path(), named=True)
    else:
        yield from files_at(source, spool, skipped)


def files_at(source: str, spool: Path, skipped: list[Skipped]) -> Iterator[TextFile]:
    """The files that a source which is a path or a glob means."""
    path = expanded(source)
    try:
        mode = mode_of(path)
    except PermissionError as problem:
        raise DataError(
            f"{source} cannot be read: {problem.strerror}; change its permissions, or leave it out"
        ) from None
    if stat.S_ISDIR(mode):
        if ours := own_output(path):
            raise DataError(f"{source} is {ours}, not text; {OURS[ours].format(source=source)}")
        yield from walk(path, skipped)
    elif stat.S_ISREG(mode):
        yield TextFile(path.name, path, named=True)
    elif mode:  # a pipe such as <(zcat notes.gz): it can be read once only
        # Not by its name alone: another pipe in another folder may have the same.
        place = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
        yield TextFile(path.name, spooled(path, spool / f"pipe-{place}"), named=True)
    elif matches := matching(path):
        yield from files_among(matches, fixed_part(path), skipped)
    else:
        raise DataError(missing_source(source, path))


def matching(pattern: Path) -> list[Path]:
    """What a glob finds; nothing where it is none."""
    if not glob.has_magic(str(pattern)):  # glob would find a link that leads nowhere under its plain name
        return []
    found = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns
    return [Path(name) for name in sorted(found)]


def files_among(matches: Sequence[Path], root: Path, skipped: list[Skipped]) -> Iterator[TextFile]:
    """The files that a glob found below `root`, by themselves and in folders."""
    what_it_is = cache(own_output)
    for match in matches:
        name = match.relative_to(root)
        below = [
            Path(*name.parts[: depth + 1]) for depth in range(len(name.parts))
        ]  # not `root` itself, which was named
        ours = next((folder for folder in below if what_it_is(root / folder)), None)
        if ours is not None:
            skipped.append(Skipped(ours.as_posix(), what_it_is(root / ours) or ""))
        elif os.path.isdir(match):  # noqa: PTH112 - Path.is_dir raises where it may not look
            yield from walk(match, skipped, names_from=root)
        elif reason := no_file(match):
            skipped.append(Skipped(name.as_posix(), reason))
        else:
            yield TextFile(name.as_posix(), match, named=False)


def fixed_part(pattern: Path) -> Path:
    """The folder in front of the first wildcard."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def walk(
    root: Path, skipped: list[Skipped], left_out: Set[str] = NEVER_ENTERED, names_from: Path | None = None
) -> Iterator[TextFile]:
    """The files below a folder in the order of their names, which are relative to `names_from` (None: the folder itself);
    folders called as in `left_out` are not entered."""
    files: list[TextFile] = []

    def skip(path: Path, reason: str) -> None:
        skipped.append(Skipped(path.relative_to(names_from or root).as_posix(), reason))

    def reason_not_to_enter(path: Path) -> str | None:
        if os.path.islink(path):  # noqa: PTH114 - Path.is_symlink raises where it may not look
            return "a link to a folder"
        return own_output(path)

    for folder, subfolders, names in os.walk(
        root, onerror=lambda problem: skip(Path(problem.filename), "cannot be read")
    ):
        entered = []
        for name in subfolders:
            if name.startswith(".") or name in left_out:
                continue
            if reason := reason_not_to_enter(Path(folder, name)):
                skip(Path(folder, name), reason)
            else:
                entered.append(name)
        subfolders[:] = entered
        for name in names:
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if reason := no_file(path):
                skip(path, reason)
            else:
                files.append(TextFile(path.relative_to(names_from or root).as_posix(), path, named=False))
    yield from sorted(files, key=lambda file: file.name)


def own_output(folder: Path) -> str | None:
    """What of ours (see OURS) this folder is, by the names in it; None where it is none, or no folder at all."""

    def holds(name: str) -> bool:
        return (folder / name).exists()

    try:
        if holds("meta.json") and holds("train.bin"):
            return PREPARED
        if holds("tokenizer.json") and holds("train.bin") and holds("val.bin"):
            return HALF_PREPARED
        if holds("config.toml") and (holds("checkpoints") or holds("metrics.jsonl")):
            return "a run"
        if holds("manifest.json") and holds("model.safetensors"):
            return "a checkpoint"
    except OSError:  # whoever reads in it is told why that cannot be
        pass
    return None


def is_prepared(source: str | Path) -> bool:
    """Whether a source is a prepared folder rather than text. Raises DataError for a home that does not exist."""
    return source not in NO_PATHS and own_output(expanded(source)) == PREPARED


def path_as_source(path: Path) -> str:
    """The source that means this path, also where a bare name would mean something else."""
    return f"./{path}" if str(path) in NO_PATHS else str(path)


def expanded(source: str | Path) -> Path:
    """Its path, `~` resolved. Raises DataError for a home that does not exist."""
    try:
        return Path(source).expanduser()
    except RuntimeError:
        raise DataError(
            f"{source} begins with a home folder that cannot be found; write ./{source} for a name that begins with ~, "
            "or name the whole path"
        ) from None


def mode_of(path: Path) -> int:
    """st_mode of what is there, 0 where there is nothing. Raises PermissionError where that may not be known."""
    try:
        return path.stat().st_mode
    except PermissionError:
        raise
    except (OSError, ValueError):  # a name that is too long, a loop of links, a character that no name can have
        return 0


def no_file(path: Path) -> str | None:
    """Why a path that was found is not read; None for a regular file. A pipe would be waited for without end."""
    try:
        return None if stat.S_ISREG(mode_of(path)) else "not a regular file"
    except PermissionError:
        return "cannot be read"


def spooled(source: Path | None, target: Path) -> Path:
    """A copy of a stream (None: standard input) that can be read more than once."""
    name = "standard input" if source is None else str(source)
    try:
        if not target.exists():
            with target.open("wb") as copy:
                if source is None:
                    shutil.copyfileobj(sys.stdin.buffer, copy)
                else:
                    with source.open("rb") as stream:
                        shutil.copyfileobj(stream, copy)
    except OSError as problem:
        if is_full(problem):
            kind = f"a copy of {name} in "
            raise DiskError(
                target.parent.parent, problem, kind=kind, elsewhere="name another folder in TMPDIR"
            ) from None
        raise DataError(
            f"{name} cannot be read: {problem.strerror or problem}; name a file, a folder or a pipe"
        ) from None
    return target


def missing_source(source: str, path: Path) -> str:
    if glob.has_magic(source):
        return f"no file matches {source}; quote the pattern or name a folder"
    if os.path.islink(path):  # noqa: PTH114 - Path.is_symlink raises for a name that is too long
        return f"{source} is a link that leads nowhere; mend it, or name a file or folder"
    try:
        siblings = {s.name: str(path.with_name(s.name)) for s in path.parent.iterdir()}
    except OSError:
        siblings = {}
    siblings |= {name: name for name in BUILTIN_NAMES}
    close = difflib.get_close_matches(path.name, siblings, n=1)
    advice = f"did you mean {siblings[close[0]]}?" if close else "name a file, a folder, a glob, - or a built-in corpus"
    there = "" if path.is_absolute() else f" in {Path.cwd()}"
    return f"{source} does not exist{there}; {advice} (built in: {', '.join(BUILTIN_NAMES)})"


def text_name(sources: Sequence[str]) -> str:
    """A name for what is made of `sources`: the first one's, in letters, digits, dots and dashes."""
    # Not resolved: a link has the name that the user knows, and a loop of links has no other.
    name = "stdin" if sources[0] == "-" else Path(os.path.abspath(sources[0])).stem  # noqa: PTH100 - absolute() keeps ..
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "text"
