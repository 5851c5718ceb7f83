"""A run as training leaves it, without the training."""

import json

from glassgpt.checkpoint import Run
from glassgpt.config import build_config

RESULT = {
    "task": "text", "val_loss": 2.5, "bits_per_byte": 3.6, "best_val_loss": 2.4, "best_step": 20,
    "baseline_bits_per_byte": 3.1, "steps": 30, "tokens": 1920, "seconds": 7.5, "training_seconds": 6.0,
    "tokens_per_second": 320.0, "parameters": 1234, "environment": {"torch": "2.13.0", "cores": 2},
}  # fmt: skip


def step_line(step, **more):
    return {
        "step": step, "train_loss": 4.0 - 0.05 * step + 0.1 * (step % 2), "learning_rate": 1e-3 * step,
        "grad_norm": 0.5 + 0.01 * step, "tokens": 64 * step, "seconds": 0.2 * step, "tokens_per_second": 300.0 + step,
    } | more  # fmt: skip


def run_of(folder, lines=None, result=RESULT, samples=((0, "xq"), (30, "row your boat")), **settings):
    """A run as training leaves it, but for its checkpoints."""
    folder.mkdir(parents=True)
    run = Run(folder)
    run.write_config(build_config(flags={"data": ("song.txt",), "max_steps": 30, "seed": 5} | settings))
    if lines is None:
        lines = [step_line(step) for step in range(1, 31)]
        lines[20:20] = [{"step": 20, "val_loss": 2.4, "bits_per_byte": 3.5, "best_val_loss": 2.4}]
        lines += [{"step": 30, "val_loss": 2.5, "bits_per_byte": 3.6, "best_val_loss": 2.4}]
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result is not None:
        run.write_result(result)
    run.samples_folder.mkdir()
    for step, text in samples:
        (run.samples_folder / f"step-{step:08d}.txt").write_text(text, encoding="utf-8")
    return run


def slower(lines):
    return [
        line | {"tokens_per_second": line["tokens_per_second"] - 90} if "train_loss" in line else line for line in lines
    ]


def labelled(folder, lines=None, accuracy=0.75, fingerprint="0" * 64, **settings):
    """A complete run that learned labels."""
    result = {name: value for name, value in RESULT.items() if "bits" not in name}
    result |= {"task": "labels", "accuracy": accuracy, "baseline_accuracy": 0.5, "data_fingerprint": fingerprint}
    validations = [{"step": s, "val_loss": 0.5, "accuracy": accuracy, "best_val_loss": 0.5} for s in (20, 30)]
    lines = lines or [*(step_line(step) for step in range(1, 31)), *validations]
    return run_of(folder, lines, result, ((0, "bad 60%: a text"),), task="labels", **settings)
