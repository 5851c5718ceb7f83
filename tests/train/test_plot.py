"""The picture of a run: what is drawn, by its numbers; how it looks was looked at."""

import pytest

from glassgpt.train.plot import plot_losses, smoothed


def test_smoothing_does_not_lag():
    """A straight line stays itself, and so does its end; noise gets smaller."""
    line = [10.0 - 0.1 * step for step in range(100)]
    assert smoothed(line) == pytest.approx(line)
    noisy = [value + (0.5 if step % 2 else -0.5) for step, value in enumerate(line)]
    inside = list(zip(smoothed(noisy), line, strict=True))[5:-5]
    assert max(abs(a - b) for a, b in inside) < 0.1
    assert smoothed([3.0]) == [3.0] and smoothed([]) == []


@pytest.mark.parametrize("height", [9, 1e6])
@pytest.mark.parametrize("steps", [1, 3, 400])
@pytest.mark.parametrize(
    ("validation", "baseline"),
    [
        ({"val_loss": 2.0, "bits_per_byte": 1.0}, 1.5),
        ({"val_loss": 0.0, "bits_per_byte": 0.0}, 1.5),  # learned by heart: nothing to take a ratio of
        ({"val_loss": 2.0, "accuracy": 0.5}, None),
    ],
)
def test_a_picture_of_every_length(tmp_path, steps, height, validation, baseline):
    metrics = [{"step": step, "train_loss": height / step} for step in range(1, steps + 1)]
    metrics.append({"step": steps, **validation})
    plot_losses(metrics, tmp_path / "loss.png", baseline, "run-1")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
