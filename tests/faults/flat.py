"""What a long run holds on to: memory and open files, after its first steps and after its last."""

import json
import os
import subprocess
import sys
from pathlib import Path

from .killing import SETTINGS, write_text

PROGRAM = """
import json, sys, threading
import psutil
from glassgpt.cli.display import TrainingDisplay, training_sample
from glassgpt import build_config, train_run
from glassgpt.train import Observer

steps, settings = int(sys.argv[1]), json.loads(sys.argv[2])
seen, process = {}, psutil.Process()

class Count(Observer):
    def on_step(self, step, metrics):
        if step in (steps // 4, steps):
            seen[step] = [process.memory_info().rss, process.num_fds(), threading.active_count()]

with TrainingDisplay() as display:
    train_run(build_config(flags=settings | {"max_steps": steps}), observers=[Count(), display], sample=training_sample)
print(json.dumps([seen[steps // 4], seen[steps]]))
"""


def growth(folder: Path, steps: int) -> tuple[int, int, int]:
    """Bytes, open files and threads that a run has more after `steps` steps, with a checkpoint every 25, a validation every
    50 and a sample every 250, than after a quarter of them."""
    write_text(folder)
    names = [name.removeprefix("--").replace("-", "_") for name in SETTINGS[::2]]
    values = [int(v) if v.isdigit() else float(v) if v.replace(".", "").isdigit() else v for v in SETTINGS[1::2]]
    settings = dict(zip(names, values, strict=True)) | {
        "data": "words.txt", "eval_every": 50, "save_every": 25, "sample_every": 250, "warmup_steps": 4, "compile": "off",
    }  # fmt: skip
    environment = os.environ | {"GLASSGPT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(steps), json.dumps(settings)],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    early, late = json.loads(done.stdout.splitlines()[-1])
    return tuple(b - a for a, b in zip(early, late, strict=True))  # type: ignore[return-value]
