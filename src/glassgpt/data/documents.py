"""One file -> its documents, in order, without holding a large file in memory.

Text is UTF-8; a byte-order mark at its start is dropped, newlines are kept as they are. `.jsonl` and `.ndjson` hold a
record a line, `.csv` and `.tsv` a record a row, and a record is a document: a text, a conversation, or a text with its label.
Any other suffix is one text as it stands.
"""

import codecs
import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from glassgpt.errors import DataError
from glassgpt.finetune import (
    LABEL,
    PAIR,
    PLAIN,
    Message,
    Task,
    conversation_of,
    holds_conversation,
    label_of,
    renamed,
    task_of,
)

PIECE_BYTES = 8 << 20
LONGEST_PIECE = 64 << 20  # characters

BOM = "\ufeff"


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


class Unreadable(DataError):  # noqa: N818 - an error only where the user named the file
    """This file is no text of ours. Found in a folder it is skipped for `reason`; named by the user it is the error."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Wanted(NamedTuple):
    """What is read from records."""

    task: Task = "text"
    text_field: str = "text"

    def is_in(self, fields: Collection[str]) -> bool:
        if self.task == "conversations":
            return holds_conversation(fields)
        return {self.text_field, *([LABEL] if self.task == "labels" else [])} <= set(fields)

    @property
    def example(self) -> str:
        return {
            "text": f'{{"{self.text_field}": "..."}}',
            "conversations": '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
            "labels": f'{{"{self.text_field}": "...", "{LABEL}": "..."}}',
        }[self.task]

    def __str__(self) -> str:
        return {
            "text": f"field {self.text_field!r}",
            "conversations": f"field 'messages', nor {PAIR[0]!r} and {PAIR[1]!r}",
            "labels": f"fields {self.text_field!r} and {LABEL!r}",
        }[self.task]


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
                place = "line" if RECORD_READERS[suffix] is _json_records else "row"
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


def cannot_be_read(name: str, problem: OSError) -> Unreadable:
    why = problem.strerror or problem
    return Unreadable("cannot be read", f"{name} cannot be read: {why}; check the file, or leave it out")


def refuse_binary(path: Path, name: str) -> None:
    with path.open("rb") as file:
        position = file.read(8 << 10).find(b"\0")
    if position >= 0:
        raise Unreadable(
            "binary (a zero byte near its start)",
            f"{name} is not text: byte {position} is zero; only UTF-8 text is read, convert the file first",
        )


def read_pieces(path: Path, name: str) -> Iterator[str]:
    """The text of a file in pieces of about PIECE_BYTES that tokenize as the whole does.

    A stretch of LONGEST_PIECE characters without a safe place is cut all the same: bounded memory comes first.
    Raises Unreadable where the file is not UTF-8 or breaks.
    """
    decoder = _Utf8(name)
    waiting: list[str] = []
    try:
        with path.open("rb") as file:
            while block := file.read(PIECE_BYTES):
                text = decoder.decode(block)
                cut = last_safe_cut(text)
                if not cut and sum(map(len, waiting)) < LONGEST_PIECE:
                    waiting.append(text)
                    continue
                cut = cut or len(text)
                yield "".join([*waiting, text[:cut]])
                waiting = [text[cut:]]
    except OSError as problem:
        raise cannot_be_read(name, problem) from problem
    waiting.append(decoder.decode(b"", final=True))
    if rest := "".join(waiting):
        yield rest


def last_safe_cut(text: str) -> int:
    """The last place where `text` can be cut and still tokenize the same; 0 where there is none.

    That is between a letter or digit and a space or line end, where the pre-tokenisations of GPT-2, GPT-4 and Qwen all
    begin a new piece. Next to a newline would not do: they differ in what it clings to, and none is safe with CRLF.
    """
    for i in range(len(text) - 1, 0, -1):
        if text[i].isspace() and text[i - 1].isalnum():
            return i
    return 0


class _Utf8:
    """Decodes block by block and knows at which byte of the file it stands."""

    def __init__(self, name: str) -> None:
        self.name, self.position, self.pending = name, 0, b""

    def decode(self, block: bytes, final: bool = False) -> str:
        block = self.pending + block
        try:
            text, used = codecs.utf_8_decode(block, "strict", final)
        except UnicodeDecodeError as problem:
            raise invalid_utf8(self.name, self.position + problem.start, block[problem.start]) from None
        starts = self.position == 0
        self.position, self.pending = self.position + used, block[used:]
        return text.removeprefix(BOM) if starts else text


def invalid_utf8(name: str, position: int, value: int) -> Unreadable:
    return Unreadable(
        "not UTF-8",
        f"{name} is not UTF-8: byte {position} (0x{value:02x}) cannot stand there; convert the file to UTF-8 first",
    )


def _one_piece(text: str) -> Iterator[str]:
    yield text


def check_encodable(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise DataError(
            f"{where} holds half a surrogate pair at character {problem.start}, which is no text; repair the file"
        ) from None


def _json_records(path: Path, name: str, wanted: Wanted | None) -> Iterator[tuple[int, dict[str, Any]]]:
    position = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode()
            except UnicodeDecodeError as problem:
                raise invalid_utf8(name, position + problem.start, line[problem.start]) from None
            text = text.removeprefix(BOM) if number == 1 else text
            position += len(line)
            if not text.strip():
                continue
            example = f"each line must be an object such as {(wanted or Wanted()).example}"
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as problem:
                why = (
                    f"{problem.msg} at character {problem.colno}"
                    if isinstance(problem, json.JSONDecodeError)
                    else problem
                )
                raise DataError(f"{name}, line {number}: not JSON ({why}); {example}") from None
            if not isinstance(record, dict):
                raise DataError(f"{name}, line {number}: {example}, this is {record!r:.40}")
            if wanted and not wanted.is_in(record):
                raise missing_field(f"{name}, line {number}", wanted, list(record), first=number == 1)
            yield number, record


def missing_field(where: str, wanted: Wanted, fields: list[str], first: bool) -> DataError:
    there = ", ".join(map(repr, fields[:12])) or "none"
    advice = "name one of them as the text field"
    if len(fields) == 1 and ";" in fields[0]:
        advice = "its columns are not separated by commas; save it with commas"
    elif wanted.task == "conversations":
        advice = (
            f"rename them{hint}" if (hint := renamed(fields)) else f"each record has to be such as {wanted.example}"
        )
    elif wanted.task == "labels":
        advice = (
            f"rename the one that holds the class to {LABEL}, and name the one that holds the text as the text field"
        )
    elif holds_conversation(fields):
        advice = "it holds conversations, which are learned as such: leave task out, or name the field of some text"
    elif hint := renamed(fields):
        advice += f"; or rename them{hint}, to train on conversations"
    message = f"{where}: no {wanted}; the fields are {there}; {advice}"
    # From the first record on: a file of another kind. Later: a broken file, which must not be left out in silence.
    return Unreadable(f"no {wanted}", message) if first else DataError(message)


def _csv_records(
    path: Path, name: str, wanted: Wanted | None, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, Any]]]:
    before = csv.field_size_limit(2**31 - 1)  # its own limit, 128 KiB, is shorter than many documents
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter, strict=True)
            if wanted and rows.fieldnames is not None and not wanted.is_in(rows.fieldnames):
                raise missing_field(f"{name}, header", wanted, list(rows.fieldnames), first=True)
            for number, row in enumerate(rows, start=1):
                record = {column: value for column, value in row.items() if value is not None}
                if wanted and not wanted.is_in(record):
                    absent = next(column for column in rows.fieldnames or () if column not in record)
                    raise DataError(f"{name}, line {rows.line_num}: the row ends before column {absent!r}; repair it")
                yield number, record
    except csv.Error as problem:
        raise DataError(
            f"{name}, line {rows.reader.line_num}: not CSV ({problem}); quote its fields as RFC 4180 says"
        ) from None
    except UnicodeDecodeError:
        for _ in read_pieces(path, name):  # names the byte: the reader above knows positions in its own buffer only
            pass
        raise
    finally:
        csv.field_size_limit(before)


# (path, name, what each record has to hold, if anything) -> (number, record)
RECORD_READERS: dict[str, Callable[[Path, str, Wanted | None], Iterator[tuple[int, dict[str, Any]]]]] = {
    ".jsonl": _json_records,
    ".ndjson": _json_records,
    ".csv": _csv_records,
    ".tsv": partial(_csv_records, delimiter="\t"),
}
