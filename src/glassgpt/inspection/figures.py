"""The figures of a run, each with its label and its words: the same on a page and in the terminal."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from glassgpt.checkpoint.metrics import step_speed

Figures = dict[str, Any]
Lines = Sequence[dict[str, Any]]


def figures_of(
    steps: Lines, validated: Lines, result: dict[str, Any] | None, saved: dict[str, Any], saved_step: int | None = None
) -> Figures:
    """The figures of a run by the names of result.json, or where that is not written yet, of metrics.jsonl and of `saved`, the
    state of its newest checkpoint, which may be of a later step than the last that was logged."""
    losses = [line["train_loss"] for line in steps if number(line.get("train_loss")) is not None]
    best = min(validated, key=lambda line: line["val_loss"], default={})
    found: Figures = {
        "train_loss": losses[-1] if losses else None,
        "step_tokens_per_second": step_speed(steps),
        "best_bits_per_byte": number(best.get("bits_per_byte")),
    }
    if result is not None:
        return {name: number(result.get(name)) for name in KINDS} | found
    last: dict[str, Any] = max([*steps[-1:], saved], key=lambda line: line.get("step", 0))
    found |= {
        "steps": last.get("step", 0),
        "saved_step": saved_step,
        "tokens": last.get("tokens"),
        "training_seconds": last.get("seconds"),
    }
    if last.get("seconds") and last.get("tokens"):
        found["tokens_per_second"] = last["tokens"] / last["seconds"]
    if validated:
        found |= {name: number(validated[-1].get(name)) for name in ("val_loss", "bits_per_byte", "accuracy")}
        found |= {"best_val_loss": best["val_loss"], "best_step": best["step"]}
    return found


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


class Kind(NamedTuple):
    label: str
    words: Callable[[Any], str]
    unit: str = ""
    better: int = 0  # 1: more of it is, -1: less, 0: neither


COUNT, LOSS, SHARE = "{:,}".format, "{:.4f}".format, "{:.1%}".format
NATS = "nats a token"
KINDS = {
    "steps": Kind("steps", COUNT),
    "saved_step": Kind("newest checkpoint", COUNT),
    "tokens": Kind("tokens", COUNT),
    "seconds": Kind("time in all", duration),
    "training_seconds": Kind("time in the loop", duration),
    "train_loss": Kind("train_loss, last logged batch", LOSS, NATS),
    "val_loss": Kind("val_loss", LOSS, NATS, better=-1),
    "best_val_loss": Kind("best_val_loss", LOSS, NATS, better=-1),
    "best_step": Kind("best step", COUNT),
    "bits_per_byte": Kind("bits_per_byte", LOSS, better=-1),
    "best_bits_per_byte": Kind("best_bits_per_byte", LOSS, better=-1),
    "baseline_bits_per_byte": Kind("counting n-grams", LOSS, "bits a byte"),
    "accuracy": Kind("accuracy", SHARE, better=1),
    "baseline_accuracy": Kind("always the commonest label", SHARE),
    "step_tokens_per_second": Kind("tokens/s", "{:,.0f}".format, better=1),
    # Of the whole loop: a run that is validated less often would win.
    "tokens_per_second": Kind("tokens/s, validations included", "{:,.0f}".format),
    "mfu": Kind("MFU", SHARE, better=1),
    "parameters": Kind("parameters", COUNT),
}


def unit_of(name: str, figures: Figures) -> str:
    """The loss of a model that tells labels apart is that of a text, not of a token; `figures` say the task too."""
    unit = KINDS[name].unit
    return "nats a text" if unit == NATS and figures["task"] == "labels" else unit


def rows_of(figures: Figures) -> list[tuple[str, str]]:
    """A label and words for each figure that is known."""
    return [
        (kind.label, f"{kind.words(figures[name])} {unit_of(name, figures)}".rstrip())
        for name, kind in KINDS.items()
        if figures.get(name) is not None
    ]


def in_words(value: Any) -> str:
    """As a file of settings has it, without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def number(value: Any) -> Any:
    """`value` where it is a finite number, else None."""
    return value if type(value) in (int, float) and abs(value) <= sys.float_info.max else None
