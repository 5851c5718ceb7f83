"""How low the loss on one text gets: the preset `char-best` on a CPU, `baby` on a CUDA device.

    python bench/best.py --text TEXT.txt

Each run is a process of its own, from a cold start. The published figures are of tinyshakespeare. Writes its part of
docs/benchmarks.md and its row of the README's table.
"""

import argparse
import datetime
import json
import tempfile
from pathlib import Path

import torch
from claims import GLASSGPT, machine, spread, timed, write_claims

from train import write_page

COMMAND = "python bench/best.py --text TEXT.txt"
ON_GPU = torch.cuda.is_available()
# Of the published recipe as many steps as lead to its lowest validation loss; after them it learns the text by heart.
BABY = {"max-steps": 2000, "precision": "bfloat16", "compile": "on"}
PRESET, FLAGS = ("baby", BABY) if ON_GPU else ("char-best", {})


def train(folder: Path, text: Path, seed: int) -> dict[str, float]:
    """What result.json says of a run, and `process_seconds`, those of the whole command."""
    run = folder / f"run-{seed}"
    flags = {"preset": PRESET, "seed": seed, "out": run} | FLAGS
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    seconds, _ = timed([*GLASSGPT, "train", str(text), *words], folder)
    return json.loads((run / "result.json").read_text("utf-8")) | {"process_seconds": seconds}


def tokens_of(runs: list[dict[str, float]]) -> str:
    seen = [int(run["tokens"]) for run in runs]
    return " to ".join(f"{count:,}" for count in sorted({min(seen), max(seen)}))


def claims(runs: list[dict[str, float]], name: str) -> dict[str, str]:
    seconds, losses = [run["process_seconds"] for run in runs], [run["val_loss"] for run in runs]
    figure = f"{spread(seconds, 0)} s, {spread(losses, 3)} nats a character; {tokens_of(runs)} tokens"
    return {f"{name}: `--preset {PRESET}`, {runs[0]['parameters']:,} parameters": figure}


def table(runs: list[dict[str, float]], name: str, about: str) -> str:
    columns = {"process_seconds": 0, "training_seconds": 0, "val_loss": 3}
    figures = " | ".join(spread([run[key] for run in runs], digits) for key, digits in columns.items())
    more = "".join(f" --{flag} {value}" for flag, value in FLAGS.items())
    return f"""## The lowest loss on one text

`python bench/best.py`: `glassgpt train {name} --preset {PRESET}{more}`, {len(runs)} seed{"s" if len(runs) > 1 else ""}; median
(least to most).

| parameters | tokens | seconds, whole command | seconds of training | nats a character |
|---|---|---|---|---|
| {runs[0]["parameters"]:,} | {tokens_of(runs)} | {figures} |

{about}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1337, 1337 + options.seeds):
            runs.append(run := train(Path(folder), options.text.resolve(), seed))
            print(f"{seed} {run['process_seconds']:8.1f} s {run['val_loss']:8.4f} nats a character", flush=True)
    device = torch.cuda.get_device_name() if ON_GPU else machine()
    text = table(runs, options.text.name, f"{datetime.date.today().isoformat()}, {device}.")
    write_page("best on a GPU" if ON_GPU else "best", {"text": text})
    write_claims(f"{COMMAND}{' (on a GPU)' if ON_GPU else ''}", claims(runs, options.text.stem))


if __name__ == "__main__":
    main()
