"""Which labels a model takes for which: a table for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from glassgpt.checkpoint import load_checkpoint, run_of
from glassgpt.checkpoint.metrics import are_counts
from glassgpt.errors import CheckpointError, DataError

WIDEST = 10  # labels; of more, the mistakes are listed
MISTAKES = 15
LONGEST_NAME = 14

Counts = npt.NDArray[np.int64]


def validation_of(checkpoint: Path) -> dict[str, Any]:
    """What its run's metrics.jsonl says of the validation of this very checkpoint."""
    run, opened = run_of(checkpoint), load_checkpoint(checkpoint)
    found = [
        line for line in (run.metrics() if run else [])
        if line["step"] == opened.state["step"] and "accuracy" in line
        and are_counts(line.get("confusion"), len(opened.labels))
    ]  # fmt: skip
    if not found:
        raise CheckpointError(
            f"nothing is known of the validation of {checkpoint}; judge it by texts of yours, with --data or --text"
        )
    return found[-1]


def require_known(judged: Sequence[str], labels: Sequence[str]) -> None:
    """Raises DataError for a label that the model has never heard of."""
    unknown = sorted(set(judged) - set(labels))
    if unknown:
        raise DataError(
            f"the label {unknown[0]!r} is none that the model knows ({', '.join(labels[:WIDEST])}); leave such texts out, or "
            "train with them"
        )


def confusion_of(true: Sequence[str], said: Sequence[str], labels: Sequence[str]) -> Counts:
    """(labels, labels): how often each (row) was taken for each (column). `said` may go on after `true`."""
    number = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, ([number[label] for label in true], [number[label] for label in said[: len(true)]]), 1)
    return counts


def confusion_table(labels: Sequence[str], confusion: npt.ArrayLike) -> Table:
    """`confusion` (labels, labels): row the true one, column what the model says."""
    counts = np.array(confusion)
    return whole_table(labels, counts) if len(labels) <= WIDEST else mistakes_table(labels, counts)


def whole_table(labels: Sequence[str], counts: Counts) -> Table:
    table = Table("it is", box=None, padding=(0, 2))
    for label in labels:
        table.add_column(Text(f"says {short(label)}"), justify="right")
    table.add_column("found", justify="right")
    for i, label in enumerate(labels):
        cells = [Text(f"{count:,}", style="bold" if i == j else "") for j, count in enumerate(counts[i])]
        table.add_row(Text(label), *cells, share(counts[i, i], counts[i].sum()))
    said = counts.sum(axis=0)
    right = [share(counts[j, j], said[j]) for j in range(len(labels))]
    table.add_row(Text("right", style="italic"), *right, share(counts.trace(), counts.sum()))
    return table


def mistakes_table(labels: Sequence[str], counts: Counts) -> Table:
    table = Table("it is", "the model says", box=None, padding=(0, 2))
    table.add_column("times", justify="right")
    wrong = counts - np.diag(np.diag(counts))
    for place in np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]:
        i, j = divmod(int(place), len(labels))
        if wrong[i, j]:
            table.add_row(Text(labels[i]), Text(labels[j]), f"{wrong[i, j]:,}")
    return table


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def short(label: str) -> str:
    """For the head of a column: names that begin alike often end otherwise."""
    half = LONGEST_NAME // 2
    return label if len(label) <= LONGEST_NAME else f"{label[:half]}…{label[-half:]}"
