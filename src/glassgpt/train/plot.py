"""loss.png: how the losses fell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def plot_losses(metrics: Sequence[dict[str, Any]], path: Path, baseline_bits_per_byte: float) -> None:
    """Training loss (each batch, and smoothed) and validation loss in nats a token; bits a byte on the right-hand axis."""
    train = [(line["step"], line["train_loss"]) for line in metrics if "train_loss" in line]
    val = [(line["step"], line["val_loss"], line["bits_per_byte"]) for line in metrics if "val_loss" in line]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if train:
        steps, losses = zip(*train, strict=True)
        axes.plot(steps, losses, color="#9ecae1", linewidth=1, label="train, one batch")
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
        axes.annotate(
            f"{losses[-1]:.3f} nats, {bits[-1]:.3f} bits a byte",
            (steps[-1], losses[-1]), xytext=(0, 14), textcoords="offset points", ha="right", color="#d94801",
        )  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats a token")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path)


def smoothed(values: Sequence[float], memory: float = 0.9) -> list[float]:
    """Exponential mean, corrected for its start as Adam corrects its own."""
    total, weight, means = 0.0, 0.0, []
    for value in values:
        total, weight = memory * total + (1 - memory) * value, memory * weight + (1 - memory)
        means.append(total / weight)
    return means
