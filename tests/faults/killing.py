"""Kills a run again and again, at random moments, and compares what comes of it with the run that nobody disturbed."""

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from glassgpt.checkpoint import Run, load_checkpoint

from ..command import wait_for
from ..warm import Warm

# Dropout and accumulation are on, and every size differs from every other.
SETTINGS = [
    "--tokenizer", "char", "--context-length", "11", "--n-layer", "2", "--n-head", "3", "--n-embd", "24", "--n-inner", "40",
    "--dropout", "0.1", "--batch-size", "6", "--micro-batch-size", "2", "--warmup-steps", "4", "--max-steps", "40",
    "--eval-every", "10", "--save-every", "3", "--sample-every", "20", "--log-every", "1", "--precision", "float32",
    "--threads", "1",
]  # fmt: skip
CLOCKS = ("seconds", "tokens_per_second")
SHARE_IN_SAVES = 0.6  # of the kills, that are meant to fall into a save
SYNC_SECONDS = 0.02
SAVE_SECONDS = 9 * SYNC_SECONDS  # so many syncs are in one


@dataclass
class Outcome:
    kills: int = 0
    in_saves: int = 0
    runs: int = 0
    differences: list[str] = field(default_factory=list)


def write_text(folder: Path) -> None:
    draw = random.Random(5)
    words = ["glass", "see", "through", "token", "head", "loss", "stream"]
    (folder / "words.txt").write_text(" ".join(draw.choice(words) for _ in range(600)), encoding="utf-8")


def what_remains(run: Run) -> dict[str, Any]:
    """Everything that a later step would depend on, and the whole history, but for clock times."""
    folder = run.checkpoint_folder(run.steps()[-1])
    state = load_checkpoint(folder).state
    return {
        "weights": load_file(folder / "model.safetensors"),
        "optimizer": load_file(folder / "optimizer.safetensors"),
        "state": {name: state[name] for name in ("step", "tokens", "best", "watch", "data_content", "settings")},
        "metrics": [{k: v for k, v in line.items() if k not in CLOCKS} for line in run.metrics()],
        "best": run.best(),
        "samples": {file.name: file.read_text("utf-8") for file in sorted(run.samples_folder.iterdir())},
        "checkpoints": run.steps(),
    }


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    def same(x: Any, y: Any) -> bool:
        return bool(x.keys() == y.keys() and all(x[name].equal(y[name]) for name in x))

    return [
        name for name in a if not (same(a[name], b[name]) if name in ("weights", "optimizer") else a[name] == b[name])
    ]


def kill_again_and_again(warm: Warm, folder: Path, kills: int, seed: int, *settings: object) -> Outcome:
    """`kills` kills in one run, or where it is over before that in several. Raises AssertionError where a command ends in any
    other way than by its kill or well."""
    draw = random.Random(seed)
    write_text(folder)
    train = ["train", "words.txt", *SETTINGS, *settings, "--out"]
    warm.begin(folder, *train, "undisturbed")
    assert warm.end() == 0, (folder / "said").read_text()
    expected = what_remains(Run(folder / "undisturbed"))
    outcome = Outcome()
    while outcome.kills < kills:
        outcome.runs += 1
        run = Run(folder / f"killed-{outcome.runs}")
        over = False
        while not over:
            begun = run.config_file.exists()
            command = ["resume", run.folder.name] if begun else [*train, run.folder.name]
            child = warm.begin(folder, *command, sync_seconds=SYNC_SECONDS)
            if outcome.kills < kills:
                wait_for_a_moment(folder, draw)
                with contextlib.suppress(ProcessLookupError):  # it may just have finished
                    os.kill(child, signal.SIGKILL)
            code = warm.end()
            if code == -signal.SIGKILL:
                outcome.kills += 1
                outcome.in_saves += (folder / "saving").read_bytes() == b"1"
                over = run.result_file.exists()  # it was complete, and only about to leave
            else:
                assert code == 0, (command, (folder / "said").read_text())
                over = True
        found = differences(expected, what_remains(run))
        outcome.differences += [f"{run.folder.name}: {name}" for name in found]
        left = [path.name for path in run.checkpoints_folder.iterdir() if path.name.startswith((".", "damaged"))]
        outcome.differences += [f"{run.folder.name}: {name} is left" for name in left]
    return outcome


def wait_for_a_moment(folder: Path, draw: random.Random) -> None:
    if draw.random() > SHARE_IN_SAVES:
        time.sleep(draw.uniform(0.0, 1.5))
        return
    for _ in range(draw.randint(1, 4)):  # one of the first saves
        wait_for(lambda: (folder / "saving").read_bytes() == b"0", seconds=3)
        if not wait_for(lambda: (folder / "saving").read_bytes() == b"1", seconds=3):
            return
    time.sleep(draw.uniform(0.0, SAVE_SECONDS))
