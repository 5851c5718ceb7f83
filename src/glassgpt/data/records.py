"""Files of records, one after another: `.jsonl` and `.ndjson` a line each, `.csv` and `.tsv` a row each."""

import csv
import json
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from glassgpt.data.text_pieces import BOM, Unreadable, invalid_utf8, read_pieces
from glassgpt.errors import DataError
from glassgpt.finetune import LABEL, PAIR, Task, holds_conversation, renamed


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


def json_records(path: Path, name: str, wanted: Wanted | None) -> Iterator[tuple[int, dict[str, Any]]]:
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


def csv_records(
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
    ".jsonl": json_records,
    ".ndjson": json_records,
    ".csv": csv_records,
    ".tsv": partial(csv_records, delimiter="\t"),
}
