"""Where text comes from: files, folders, globs, standard input and built-in names become one stream of documents.

Rules. What exists as a path is a path, then comes a built-in name, then a glob. In a folder every text file counts,
whatever its suffix, in the order of its relative path; hidden names and `__pycache__` do not; folders behind links are
not entered, so that a loop of links ends. A file that was named itself must be readable text, one that was found in a
folder or by a glob is skipped with its reason. Empty texts are skipped. A file reached twice counts once.
"""

import difflib
import glob
import hashlib
import os
import re
import shutil
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from glassgpt.data.builtin import (
    BUILTIN_NAMES,
    PYTHON_FOLDERS_LEFT_OUT,
    is_python_corpus,
    shakespeare_path,
    standard_library,
)
from glassgpt.data.documents import Document, Unreadable, read_documents
from glassgpt.errors import DataError

NEVER_ENTERED = frozenset({"__pycache__"})


@dataclass(frozen=True)
class Skipped:
    name: str
    reason: str


@dataclass(frozen=True)
class TextFile:
    name: str  # relative to the folder that was named, forward slashes: the same on every machine
    path: Path
    named: bool  # by the user, as opposed to found


class Corpus:
    """Documents that can be iterated any number of times, read from disk each time.

    Building it reads everything once: to check it, to measure it, and to fingerprint it. It keeps 16 bytes a document:
    `name_hashes` (uint64) and `sizes` (bytes of UTF-8); besides `characters` in all, `skipped`, and `fingerprint`, the
    sha256 over every document's name and content.
    """

    def __init__(
        self,
        files: Sequence[TextFile],
        skipped: Sequence[Skipped],
        text_field: str,
        report: Callable[[float], None] | None = None,
    ) -> None:
        self.files: list[TextFile] = []
        self.skipped = list(skipped)
        self.text_field = text_field
        self.name_hashes, self.sizes = array("Q"), array("q")
        self.characters = 0
        self.fingerprint = ""
        self._read_once(files, report or (lambda _: None))

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Document]:
        for file in self.files:
            for document in read_documents(file.path, file.name, self.text_field):
                if any(document.pieces()):
                    yield document

    def _read_once(self, files: Sequence[TextFile], report: Callable[[float], None]) -> None:
        seen = hashlib.sha256()
        for done, file in enumerate(files):
            seen_here, hashes, sizes, characters, empty = seen.copy(), array("Q"), array("q"), 0, 0
            try:
                for document in read_documents(file.path, file.name, self.text_field):
                    content, size, length = measure(document)
                    if not size:
                        empty += 1
                        continue
                    name = hashlib.sha256(document.name.encode("utf-8", "surrogateescape")).digest()
                    seen_here.update(name + content)
                    hashes.append(int.from_bytes(name[:8]))
                    sizes.append(size)
                    characters += length
            except Unreadable as problem:
                if file.named:
                    raise
                self.skipped.append(Skipped(file.name, problem.reason))
                continue
            if empty or not sizes:
                self.skipped.append(Skipped(file.name, f"{empty} empty records in it" if sizes else "empty"))
            if sizes:
                self.files.append(file)
                self.name_hashes.extend(hashes)
                self.sizes.extend(sizes)
                self.characters += characters
                seen = seen_here
            report((done + 1) / len(files))
        self.fingerprint = seen.hexdigest()


def measure(document: Document) -> tuple[bytes, int, int]:
    """sha256, bytes of UTF-8 and characters of its text."""
    content, size, characters = hashlib.sha256(), 0, 0
    for piece in document.pieces():
        encoded = piece.encode()
        content.update(encoded)
        size, characters = size + len(encoded), characters + len(piece)
    return content.digest(), size, characters


@contextmanager
def open_corpus(
    sources: Sequence[str], text_field: str = "text", report: Callable[[float], None] | None = None
) -> Iterator[Corpus]:
    """The corpus of these sources: paths, globs, `-`, or built-in names. A context: it may hold a spooled stdin.

    Raises DataError for a source that is missing, a named file that is no text, or when nothing is left to read.
    """
    with tempfile.TemporaryDirectory(prefix="glassgpt-stdin-") as spool:
        files, skipped = list_files(sources, Path(spool))
        corpus = Corpus(files, skipped, text_field, report)
        if not len(corpus):
            raise DataError(nothing_to_read(sources, corpus.skipped))
        yield corpus


def nothing_to_read(sources: Sequence[str], skipped: Sequence[Skipped]) -> str:
    why = "; ".join(f"{s.name}: {s.reason}" for s in skipped[:3]) or "there are no files in it"
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return (
        f"no text in {', '.join(sources) or 'an empty list of sources'} ({why}{more}); name a file or folder with text"
    )


def list_files(sources: Sequence[str], spool: Path) -> tuple[list[TextFile], list[Skipped]]:
    """Every file that the sources mean, each once, in the order of the sources; nothing is opened but streams."""
    skipped: list[Skipped] = []
    found: dict[str, TextFile] = {}  # by real path
    for source in sources:
        for file in files_of(source, spool, skipped):
            real = os.path.realpath(file.path)
            if real not in found or file.named:
                found[real] = file
    return list(found.values()), list(dict.fromkeys(skipped))


def files_of(source: str, spool: Path, skipped: list[Skipped]) -> Iterator[TextFile]:
    path = Path(source).expanduser()
    if source == "-":
        yield TextFile("stdin", spooled(None, spool / "stdin"), named=True)
    elif path.is_dir():
        yield from walk(path, skipped)
    elif path.is_file():
        yield TextFile(path.name, path, named=True)
    elif path.exists():  # a pipe such as <(zcat notes.gz): it can be read once only
        yield TextFile(path.name, spooled(path, spool / f"pipe-{path.name}"), named=True)
    elif source == "python":
        library = walk(standard_library(), [], NEVER_ENTERED | PYTHON_FOLDERS_LEFT_OUT)
        yield from (file for file in library if is_python_corpus(file.name))
    elif source == "shakespeare":
        yield TextFile("tinyshakespeare.txt", shakespeare_path(), named=True)
    elif matches := sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 - Path.glob refuses absolute patterns
        root = fixed_part(path)
        for match in map(Path, matches):
            if match.is_dir():
                yield from walk(match, skipped)
            elif match.is_file():
                yield TextFile(match.relative_to(root).as_posix(), match, named=False)
    else:
        raise DataError(missing_source(source, path))


def fixed_part(pattern: Path) -> Path:
    """The folder in front of the first wildcard."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def walk(root: Path, skipped: list[Skipped], left_out: Set[str] = NEVER_ENTERED) -> Iterator[TextFile]:
    """The files below a folder in the order of their names; folders called as in `left_out` are not entered."""
    files: list[TextFile] = []

    def name_of(path: Path) -> str:
        return path.relative_to(root).as_posix()

    def unreadable(problem: OSError) -> None:
        skipped.append(Skipped(name_of(Path(problem.filename)), "cannot be read"))

    for folder, subfolders, names in os.walk(root, onerror=unreadable):
        subfolders[:] = [s for s in subfolders if not s.startswith(".") and s not in left_out]
        links = filter(Path.is_symlink, map(Path(folder).joinpath, subfolders))
        skipped.extend(Skipped(name_of(link), "a link to a folder") for link in links)
        for path in map(Path(folder).joinpath, names):
            if path.name.startswith("."):
                continue
            if path.is_file():
                files.append(TextFile(name_of(path), path, named=False))
            else:
                skipped.append(Skipped(name_of(path), "not a regular file"))
    yield from sorted(files, key=lambda file: file.name)


def spooled(source: Path | None, target: Path) -> Path:
    """A copy of a stream (None: standard input) that can be read more than once."""
    if not target.exists():
        with target.open("wb") as copy:
            if source is None:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with source.open("rb") as stream:
                    shutil.copyfileobj(stream, copy)
    return target


def missing_source(source: str, path: Path) -> str:
    if glob.has_magic(source):
        return f"no file matches {source}; quote the pattern or name a folder"
    siblings = {s.name: str(path.with_name(s.name)) for s in path.parent.iterdir()} if path.parent.is_dir() else {}
    siblings |= {name: name for name in BUILTIN_NAMES}
    close = difflib.get_close_matches(path.name, siblings, n=1)
    advice = f"did you mean {siblings[close[0]]}?" if close else "name a file, a folder, a glob, - or a built-in corpus"
    return f"{source} does not exist; {advice} (built in: {', '.join(BUILTIN_NAMES)})"


def text_name(sources: Sequence[str]) -> str:
    """A name for what is made of `sources`: the first one's, in letters, digits, dots and dashes."""
    name = "stdin" if sources[0] == "-" else Path(sources[0]).resolve().stem
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "text"
