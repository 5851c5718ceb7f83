"""The documents of all files of a corpus, in one stream that can be read again and again. Empty texts are skipped."""

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from glassgpt.data.documents import Document, Unreadable, read_documents
from glassgpt.data.sources import Skipped, TextFile, list_files
from glassgpt.errors import DataError


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
    """The corpus of these sources (see sources.py). A context: it may hold a spooled stdin.

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
