"""metrics.jsonl, where a run's figures stand: read in spite of whatever was done to it, and cut where a run goes on."""

import os
import statistics
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from glassgpt.config.plain import parse_json, typed

# What is read again from a line; more may stand there.
FIGURES = {
    "step", "tokens", "seconds", "tokens_per_second", "train_loss", "val_loss", "bits_per_byte", "accuracy", "best_val_loss",
}  # fmt: skip


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """All whole lines; a last one that a kill cut short is left out, and what is no line of figures."""
    return [figures for figures in map(figures_in, _lines(file)) if figures is not None]


def figures_in(line: str | bytes) -> dict[str, Any] | None:
    """What a line says, or None where it is no line of figures."""
    try:
        entries: dict[str, Any] = parse_json(line if isinstance(line, str) else line.decode(errors="replace"))
        for name in FIGURES & entries.keys() | {"step"}:
            typed(int if name in ("step", "tokens") else float, entries[name], name)
    except (ValueError, AttributeError, KeyError):
        return None
    return entries


def garbled_lines(file: Path) -> str | None:
    """Which lines are no figures, in words that follow the file's name."""
    garbled = [number for number, line in enumerate(_lines(file), start=1) if figures_in(line) is None]
    if garbled[1:]:
        return f"is damaged: {len(garbled)} lines hold no figures, the first is line {garbled[0]}"
    return f"is damaged: line {garbled[0]} holds no figures" if garbled else None


def lost_bytes(file: Path, known: int) -> str | None:
    """That the file is shorter than a checkpoint knows it, in words that follow its name."""
    missing = known - file.stat().st_size
    return f"has lost lines: it ends {missing:,} bytes too early" if missing > 0 else None


def cut_metrics(file: Path, known: int, step: int) -> str | None:
    """Forget what came after the checkpoint of `step`, which knew of that many bytes, but not the validation of that step,
    which is made once it is saved; in words that follow the file's name where those bytes are others by now."""
    there = file.read_bytes()
    if not known or there[known - 1 : known] == b"\n":
        after = there[known:].split(b"\n", 1)
        figures = figures_in(after[0]) if after[1:] else None
        own = figures is not None and figures["step"] == step and "val_loss" in figures
        os.truncate(file, known + len(after[0]) + 1 if own else known)
        return None
    problem = lost_bytes(file, known) or "has other lines than it had when the checkpoint was saved"
    lines = there[: there[:known].rfind(b"\n") + 1].splitlines(keepends=True)
    while lines and (last := figures_in(lines[-1])) and last["step"] > step:
        lines.pop()
    os.truncate(file, sum(map(len, lines)))
    return problem


def are_counts(confusion: object, labels: int) -> bool:
    """Whether it is a table of `labels` rows and columns."""
    try:
        rows: tuple[tuple[int, ...], ...] = typed(tuple[tuple[int, ...], ...], confusion, "confusion")
    except ValueError:
        return False
    return [len(row) for row in rows] == [labels] * labels


def step_speed(lines: Iterable[dict[str, Any]]) -> float | None:
    """Tokens a second while a step is computed: the median of the logged ones, so that neither what stands between steps nor
    a resume or a moment's load counts. None where no line says it."""
    speeds = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line]
    return statistics.median(speeds) if speeds else None


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value's surroundings, a tenth of the whole: as far to one side as to the other, so that a curve that
    falls is not drawn later than it fell; at the ends so far as there is."""
    reach = len(values) // 20
    sums = [0.0, *accumulate(values)]
    means = []
    for i in range(len(values)):
        side = min(reach, i, len(values) - 1 - i)
        means.append((sums[i + side + 1] - sums[i - side]) / (2 * side + 1))
    return means


def _lines(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    *whole, last = text.split("\n")
    return whole if figures_in(last) is None else [*whole, last]
