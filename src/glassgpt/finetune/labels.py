"""A record -> the label of its text."""

from collections.abc import Iterable, Mapping
from typing import Any

from glassgpt.errors import DataError

LABEL = "label"


def label_of(record: Mapping[str, Any], where: str) -> str:
    """What stands in `label`, numbers and true or false as they are written. Raises DataError where nothing does."""
    label = record[LABEL]
    if isinstance(label, (bool, int)):
        label = str(label).lower()
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{where}: {LABEL} must hold a word or a whole number, it holds {label!r:.40}")
    return label.strip()


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Each once: numbers by their size, words by the alphabet."""

    def is_number(label: str) -> bool:
        return label.isascii() and label.removeprefix("-").isdigit() and len(label) < 20

    every = set(labels)
    return tuple(sorted(every, key=lambda label: (int(label), label)) if all(map(is_number, every)) else sorted(every))
