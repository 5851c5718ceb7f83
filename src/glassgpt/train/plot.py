"""loss.png: how the losses fell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from glassgpt.checkpoint.metrics import smoothed

FEW_POINTS = 30
WIDE = 1000.0  # nats, from which on their numbers need more room than there is


def plot_losses(metrics: Sequence[dict[str, Any]], path: Path, baseline_bits_per_byte: float | None, name: str) -> None:
    """Training loss (each batch, and smoothed) and validation loss in nats a target; on the right-hand axis bits a byte, or
    for labels the accuracy. `name` is the run's, for the title."""
    train = [(line["step"], line["train_loss"]) for line in metrics if "train_loss" in line]
    val = [line for line in metrics if "val_loss" in line]
    target = "token" if baseline_bits_per_byte is not None else "text"
    wide = max((loss for _, loss in train), default=0.0) >= WIDE
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained" if wide else None)
    axes = figure.add_subplot()
    if not wide:  # a layout that is computed draws everything twice
        figure.subplots_adjust(left=0.095, right=0.905, bottom=0.2, top=0.92)
    if train:
        steps, losses = [step for step, _ in train], [loss for _, loss in train]
        dots = "." if len(steps) < FEW_POINTS else ""  # a line needs two points to be seen
        axes.plot(steps, losses, marker=dots, color="#9ecae1", linewidth=1, label="train, one batch")
        axes.plot(steps, smoothed(losses), color="#2171b5", linewidth=2, label="train, smoothed")
    if val:
        steps, losses = [line["step"] for line in val], [line["val_loss"] for line in val]
        axes.plot(steps, losses, "o-", color="#d94801", linewidth=2, markersize=4, label="validation")
        figures = f"{losses[-1]:.3f} nats a {target}"
        if baseline_bits_per_byte is not None and losses[-1] > 0:
            figures += f", {val[-1]['bits_per_byte']:.3f} bits a byte"
            # Both axes show the same curve: one is the other times a constant of the text and its tokenizer.
            bits_per_nat = val[-1]["bits_per_byte"] / losses[-1]
            right = axes.secondary_yaxis("right", functions=(lambda y: y * bits_per_nat, lambda y: y / bits_per_nat))
            right.set_ylabel("bits a byte")
            axes.axhline(
                baseline_bits_per_byte / bits_per_nat,
                color="#636363",
                linestyle="--",
                linewidth=1,
                label="counting n-grams",
            )
        elif "accuracy" in val[-1]:
            figures += f", {val[-1]['accuracy']:.1%} right"
            shares = axes.twinx()
            right_shares = [100 * line["accuracy"] for line in val]
            shares.plot(steps, right_shares, "s:", color="#238b45", markersize=4, label="validation, right")
            shares.set_ylabel("right labels, %", color="#238b45")
            shares.set_ylim(0, 102)
        axes.set_title(f"{name}: {figures}", fontsize="medium")
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss, nats a {target}")
    axes.grid(alpha=0.25)
    # Below, where no curve can run through it.
    figure.legend(frameon=False, loc="outside lower center" if wide else "lower center", ncols=4)
    figure.savefig(path)
