"""loss.png: how the losses fell."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

FEW_POINTS = 30


def plot_losses(metrics: Sequence[dict[str, Any]], path: Path, baseline_bits_per_byte: float, name: str) -> None:
    """Training loss (each batch, and smoothed) and validation loss in nats a token; bits a byte on the right-hand axis.
    `name` is the run's, for the title."""
    train = [(line["step"], line["train_loss"]) for line in metrics if "train_loss" in line]
    val = [(line["step"], line["val_loss"], line["bits_per_byte"]) for line in metrics if "val_loss" in line]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if train:
        steps, losses = zip(*train, strict=True)
        dots = "." if len(steps) < FEW_POINTS else ""  # a line needs two points to be seen
        axes.plot(steps, losses, marker=dots, color="#9ecae1", linewidth=1, label="train, one batch")
        axes.plot(steps, smoothed(losses), color="#2171b5", linewidth=2, label="train, smoothed")
    if val:
        steps, losses, bits = zip(*val, strict=True)
        axes.plot(steps, losses, "o-", color="#d94801", linewidth=2, markersize=4, label="validation")
        # Both axes show the same curve: one is the other times a constant of the text and its tokenizer.
        bits_per_nat = bits[-1] / losses[-1]
        right = axes.secondary_yaxis("right", functions=(lambda y: y * bits_per_nat, lambda y: y / bits_per_nat))
        right.set_ylabel("bits a byte")
        axes.axhline(
            baseline_bits_per_byte / bits_per_nat,
            color="#636363",
            linestyle="--",
            linewidth=1,
            label="counting n-grams",
        )
        axes.set_title(f"{name}: {losses[-1]:.3f} nats a token, {bits[-1]:.3f} bits a byte", fontsize="medium")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats a token")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path)


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
