"""How long training stands still for its checkpoints: 10 million parameters, a checkpoint every 100 steps.

    python bench/saving.py [--times 3]

The same run with a checkpoint every 100 steps and with none but the first and the last, in turn. `waited` is what the loop itself
measured; the difference of the two times also holds what writing takes away from training while it goes on.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

STEPS, EVERY = 300, 100
SHAPE = [
    "--tokenizer", "byte", "--architecture", "gpt2", "--n-layer", "6", "--n-head", "6", "--n-embd", "372", "--context-length",
    "128", "--batch-size", "8", "--precision", "float32", "--compile", "off", "--max-steps", str(STEPS), "--warmup-steps", "10",
    "--eval-every", str(STEPS), "--sample-every", str(STEPS),
]  # fmt: skip


def train(folder: Path, name: str, save_every: int) -> dict[str, float]:
    command = [sys.executable, "-m", "glassgpt", "train", "text.txt", *SHAPE, "--save-every", str(save_every), "--out", name]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    result: dict[str, float] = json.loads((folder / name / "result.json").read_text())
    # The first one is written before there is anything to go on with, the last one after.
    saves = [line for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    assert saves
    return result


def measure(times: int) -> dict[str, float]:
    """waited: the share of the training time, the largest of `times` runs; more: how much longer the run is, at the median."""
    waited, seconds, without = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "text.txt").write_text("Glass is made of sand, and what is made of sand breaks.\n" * 3000)
        for number in track(range(times), "training", console=Console(stderr=True)):
            with_saves = train(folder, f"saves-{number}", EVERY)
            no_saves = train(folder, f"none-{number}", STEPS)
            assert 9.9e6 < with_saves["parameters"] < 10.5e6
            # What both have: the first save and the last, which nothing can go on beside.
            waited.append((with_saves["checkpoint_seconds"] - no_saves["checkpoint_seconds"]) / with_saves["training_seconds"])
            seconds.append(with_saves["training_seconds"])
            without.append(no_saves["training_seconds"])
    return {
        "waited": max(waited),
        "more": statistics.median(seconds) / statistics.median(without) - 1,
        "seconds": statistics.median(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    measured = measure(parser.parse_args().times)
    table = Table(f"10 million parameters, {STEPS} steps, a checkpoint every {EVERY}", "")
    table.add_row("training stood still for them (worst of all runs)", f"{measured['waited']:.2%}")
    table.add_row("the run took longer than without (medians)", f"{measured['more']:.1%}")
    table.add_row("seconds of training", f"{measured['seconds']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
