"""The documents of all files of a corpus, in one stream that can be read again and again. Empty texts are skipped."""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from glassgpt.data.documents import Document, read_documents, task_in
from glassgpt.data.records import Wanted
from glassgpt.data.sources import Skipped, TextFile, list_files
from glassgpt.data.text_pieces import Unreadable
from glassgpt.disk import temporary_folder
from glassgpt.errors import DataError
from glassgpt.finetune import LABEL, Task, ordered


class Corpus:
    """Documents that can be iterated any number of times, read from disk each time.

    Building it reads everything once: to check it, to measure it, and to fingerprint it. It keeps 16 bytes a document:
    `name_hashes` (uint64) and `sizes` (bytes of UTF-8), with labels `label_numbers` as well; besides `characters` in all,
    `labels`, `skipped`, and `fingerprint`, the sha256 over every document's name and content.
    """

    def __init__(
        self,
        files: Sequence[TextFile],
        skipped: Sequence[Skipped],
        wanted: Wanted,
        report: Callable[[float], None] | None = None,
    ) -> None:
        self.files: list[TextFile] = []
        self.skipped = list(skipped)
        self.wanted = wanted
        self.name_hashes, self.sizes = array("Q"), array("q")
        self.characters = 0
        self.labels: tuple[str, ...] = ()
        self.label_numbers = array("L")
        self.fingerprint = ""
        self._read_once(files, report or (lambda _: None))

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Document]:
        for file in self.files:
            for document in read_documents(file.path, file.name, self.wanted):
                if any(document.pieces()):
                    yield document

    def _read_once(self, files: Sequence[TextFile], report: Callable[[float], None]) -> None:
        seen = hashlib.sha256()
        numbers: dict[str, int] = {}  # of the labels, in the order of their appearance
        for done, file in enumerate(files):
            seen_here, hashes, sizes, characters, empty = seen.copy(), array("Q"), array("q"), 0, 0
            labels = array("L")
            try:
                for document in read_documents(file.path, file.name, self.wanted):
                    content, size, length = measure(document)
                    if not size:
                        empty += 1
                        continue
                    name = hashlib.sha256(document.name.encode("utf-8", "surrogateescape")).digest()
                    seen_here.update(name + content)
                    hashes.append(int.from_bytes(name[:8]))
                    sizes.append(size)
                    characters += length
                    if document.label is not None:
                        labels.append(numbers.setdefault(document.label, len(numbers)))
            except Unreadable as problem:
                if file.named:
                    raise
                self.skipped.append(Skipped(file.name, problem.reason))
                continue
            if empty or not sizes:
                self.skipped.append(
                    Skipped(file.name, f"in part: {empty} empty record{'s' * (empty > 1)}" if sizes else "empty")
                )
            if sizes:
                self.files.append(file)
                self.name_hashes.extend(hashes)
                self.sizes.extend(sizes)
                self.characters += characters
                self.label_numbers.extend(labels)
                seen = seen_here
            report((done + 1) / len(files))
        names = list(numbers)
        self.labels = ordered(names[number] for number in set(self.label_numbers))
        self.fingerprint = seen.hexdigest()


def measure(document: Document) -> tuple[bytes, int, int]:
    """sha256, bytes of UTF-8 and characters of its text."""
    content, size, characters = hashlib.sha256(), 0, 0
    for piece in document.pieces():
        encoded = piece.encode()
        content.update(encoded)
        size, characters = size + len(encoded), characters + len(piece)
    if document.messages or document.label is not None:  # who says what is not in the text
        content.update(json.dumps([document.messages, document.label]).encode())
    return content.digest(), size, characters


@contextmanager
def open_corpus(
    sources: Sequence[str],
    text_field: str = "text",
    report: Callable[[float], None] | None = None,
    task: Task | Literal["auto"] = "auto",
) -> Iterator[Corpus]:
    """The corpus of these sources (see sources.py). A context: it may hold a spooled stdin. The task is auto: what the first
    record of every file is for, and text where they are not of one kind.

    Raises DataError for a source that is missing, a named file that is no text, or when nothing is left to read.
    """
    with temporary_folder("glassgpt-stdin") as spool:
        files, skipped = list_files(sources, spool)
        corpus = Corpus(
            files, skipped, Wanted(task_of_files(files, text_field) if task == "auto" else task, text_field), report
        )
        if not len(corpus):
            raise DataError(nothing_to_read(sources, corpus.skipped))
        yield corpus


def task_of_files(files: Sequence[TextFile], text_field: str) -> Task:
    """What they all are for. Texts with labels are texts beside others; conversations beside something else would be left out
    in silence, so that a person has to choose: DataError."""
    first: dict[Task, str] = {}  # the first file for each
    for file in files:
        task = task_in(file.path, file.name, text_field)
        if task is not None:
            first.setdefault(task, file.name)
        if "conversations" in first and len(first) > 1:
            other = next(name for task, name in first.items() if task != "conversations")
            raise DataError(
                f"{first['conversations']} holds conversations, {other} does not; name one kind of files, or say with task "
                "which of them is to be learned: conversations or text"
            )
    return next(iter(first)) if len(first) == 1 else "text"


def require_learnable(corpus: Corpus) -> None:
    """Raises DataError where there is nothing to validate with, or to tell apart."""
    if corpus.wanted.task == "conversations" and len(corpus) == 1:
        raise DataError("there is one conversation only; give at least two, one of them to validate with")
    if corpus.wanted.task != "labels":
        return
    advice = f"to learn to write such texts, say that the task is text; else check the field {LABEL!r}"
    if len(corpus.labels) < 2:
        raise DataError(
            f"every text has the label {corpus.labels[0]!r}, so that there is nothing to tell apart; {advice}"
        )
    if len(corpus.labels) == len(corpus) > 2:
        raise DataError(
            f"each of the {len(corpus)} texts has a label of its own, so that none can be learned; {advice}"
        )


def nothing_to_read(sources: Sequence[str], skipped: Sequence[Skipped]) -> str:
    why = "; ".join(f"{s.name}: {s.reason}" for s in skipped[:3]) or "there are no files in it"
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return (
        f"no text in {', '.join(sources) or 'an empty list of sources'} ({why}{more}); name a file or folder with text"
    )
