"""One file -> its documents, in order. A record is a document: a text, a conversation, or a text with its label; a file that
holds no records is one text as it stands."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from glassgpt.data.records import RECORD_READERS, Wanted, json_records
from glassgpt.data.text_pieces import Unreadable, cannot_be_read, read_pieces, refuse_binary
from glassgpt.errors import DataError
from glassgpt.finetune import PLAIN, Message, Task, conversation_of, label_of, task_of


@dataclass(frozen=True)
class Document:
    """`pieces()` gives the text in order, anew at each call: one piece, or several of about 8 MB for a large file. Of a
    conversation it is the text that a person would read."""

    name: str
    pieces: Callable[[], Iterator[str]]
    messages: tuple[Message, ...] = ()
    label: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces())


def read_documents(path: Path, name: str, wanted: Wanted) -> Iterator[Document]:
    """The documents of one file; records are named `name:number`, counted from 1 (csv: without the header).

    Raises Unreadable for binary files, invalid UTF-8, and files without the fields that are `wanted`; DataError where a
    record in the middle is malformed: half a file must not pass for the whole.
    """
    suffix = path.suffix.lower()
    try:
        refuse_binary(path, name)
        if suffix in RECORD_READERS:
            for number, record in RECORD_READERS[suffix](path, name, wanted):
                place = "line" if RECORD_READERS[suffix] is json_records else "row"
                yield document_of(record, wanted, f"{name}:{number}", f"{name}, {place} {number}")
        elif wanted.task == "text":
            yield Document(name, partial(read_pieces, path, name))
        else:
            raise Unreadable(
                "no records", f"{name} holds no records; {wanted.task} are read from {', '.join(RECORD_READERS)} files"
            )
    except OSError as problem:
        raise cannot_be_read(name, problem) from problem


def task_in(path: Path, name: str, text_field: str) -> Task | None:
    """What the first record of a file is for, or text, where it is none of records; None for a file that will be skipped."""
    reader = RECORD_READERS.get(path.suffix.lower())
    try:
        refuse_binary(path, name)
        if reader is None:
            return "text" if path.stat().st_size else None
        first = next(reader(path, name, None), None)
    except (DataError, OSError):  # said where the file is read
        return None
    return task_of(set(first[1]), text_field) if first else None


def document_of(record: Mapping[str, Any], wanted: Wanted, name: str, where: str) -> Document:
    messages: tuple[Message, ...] = ()
    label = None
    if wanted.task == "conversations":
        messages = conversation_of(record, where)
        text = "".join(piece.text for piece in PLAIN.text(messages))
    else:
        text = record[wanted.text_field]
        if not isinstance(text, str):
            raise DataError(
                f"{where}: field {wanted.text_field!r} must hold a string, it holds a {type(text).__name__}; "
                "name another text field"
            )
        if wanted.task == "labels":
            label = label_of(record, where)
    check_encodable(text + (label or ""), name)
    return Document(name, partial(_one_piece, text), messages, label)


def _one_piece(text: str) -> Iterator[str]:
    yield text


def check_encodable(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise DataError(
            f"{where} holds half a surrogate pair at character {problem.start}, which is no text; repair the file"
        ) from None
