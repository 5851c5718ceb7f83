"""Tries to lose a run in every way it knows, and writes what came of it: docs/reliability.json, from that docs/reliability.md,
and the table between the README's two marks.

    python bench/reliability.py [--kills 200] [--files 2000]

About half an hour on two cores. The test suite holds the same promises with fewer kills and files.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

HOME = Path(__file__).resolve().parent.parent
RESULTS, PAGE = HOME / "docs" / "reliability.json", HOME / "docs" / "reliability.md"
MARK = re.compile(r"(<!-- reliability -->\n).*?(<!-- /reliability -->)", re.S)
sys.path.insert(0, str(HOME))

import torch  # noqa: E402 - after the path that makes tests importable
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from tests.faults.flat import growth  # noqa: E402
from tests.faults.fuzz import fuzz  # noqa: E402
from tests.faults.killing import kill_again_and_again  # noqa: E402
from tests.warm import Warm  # noqa: E402

INTRODUCTION = """# Never lose a run

Written by `python bench/reliability.py`, which tries each of these things again. Each promise is held by the tests beside it,
which run with every change; what took many attempts has its figure from this command.
"""
# Stands still for this long at most: the loop's own clock, the first save and the last, which nothing runs beside, included.
SAVING = [
    "--tokenizer", "byte", "--architecture", "gpt2", "--n-layer", "6", "--n-head", "6", "--n-embd", "372",
    "--context-length", "128", "--batch-size", "8", "--precision", "float32", "--compile", "off", "--warmup-steps", "10",
    "--max-steps", "300", "--save-every", "100", "--eval-every", "300", "--sample-every", "300",
]  # fmt: skip


class Promise(NamedTuple):
    words: str
    tests: str  # arguments of pytest
    figure: Callable[[argparse.Namespace], str] | None = None  # what is said beside how many tests passed


def kills(asked: argparse.Namespace) -> str:
    """A quarter of them with each block under each optimizer."""
    total, in_saves, runs = 0, 0, 0
    with Warm() as warm:
        for seed, (architecture, optimizer) in enumerate(product(("gpt2", "modern"), ("adamw", "muon"))):
            with tempfile.TemporaryDirectory() as folder:
                settings = ["--architecture", architecture, "--optimizer", optimizer]
                outcome = kill_again_and_again(warm, Path(folder), asked.kills // 4, seed, *settings)
            assert not outcome.differences, outcome
            total, in_saves, runs = total + outcome.kills, in_saves + outcome.in_saves, runs + outcome.runs
    assert in_saves >= 0.4 * total
    what = f"{total} kills, {in_saves} of them during a save, with both blocks and both optimizers"
    return f"{what}: all {runs} runs ended with the same bits"


def files(asked: argparse.Namespace) -> str:
    summary = fuzz(asked.files)
    assert not summary["faults"], summary
    harmless = summary["exit codes"].get("0", 0)
    return f"{asked.files:,} hostile files and folders: {asked.files - harmless:,} refused in one line, {harmless:,} harmless"


def waiting(asked: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "text.txt").write_text("Glass is made of sand, and what is made of sand breaks.\n" * 3000)
        command = [sys.executable, "-m", "glassgpt", "train", "text.txt", *SAVING, "--out", "run"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        result = json.loads((folder / "run/result.json").read_text())
    share = result["checkpoint_seconds"] / result["training_seconds"]
    assert share < 0.01, result
    return (
        f"{share:.2%} of the time at {result['parameters'] / 1e6:.1f} million parameters and a checkpoint every 100 steps "
        f"({result['checkpoint_seconds']:.2f} of {result['training_seconds']:.0f} s)"
    )


def holding_on(asked: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as folder:
        memory, open_files, _ = growth(Path(folder), 2000)
    return f"{memory / 1e6:+.1f} MB and {open_files:+d} open files from step 500 to step 2,000"


FAULTS = "tests/faults/"
PROMISES = [
    Promise(
        "Killed at any moment (SIGKILL), a resumed run ends with the same weights, optimizer and metrics, bit for bit",
        FAULTS + "test_killed.py",
        kills,
    ),
    Promise(
        "Killed at every single system call of a save, it has step k or k - 1, and no rubbish stays",
        FAULTS + "test_crash_points.py",
    ),
    Promise("Every file is on the disk before the checkpoint has its name", FAULTS + "test_order_on_disk.py"),
    Promise("Training hardly stands still for checkpoints", "tests/train/test_saver.py", waiting),
    Promise(
        "A full disk is one line with path, bytes needed and bytes free, before the first step if it can be; room again, and "
        "`resume` goes on",
        "tests/faults/test_full_disk.py",
    ),
    Promise(
        "A flipped bit, a cut, a missing or swapped file is named, and the checkpoint before it used",
        "tests/checkpoint tests/cli/test_verify.py",
    ),
    Promise(
        "Ctrl-C and a polite kill in any phase: saved within a step, or at once where there is nothing to save; a second one "
        "leaves at once",
        "tests/train/test_guards.py tests/faults/test_signals_before_training.py",
    ),
    Promise("Neither nan nor infinity reaches a weight or a checkpoint", "tests/train/test_watch.py"),
    Promise(
        "Out of memory halves the micro batch and goes on with the same batches", "tests/train/test_guards.py -k memory"
    ),
    Promise(
        "Watching more or less leaves the same bits",
        "tests/train/test_guards.py tests/train/test_run.py -k same_bits",
    ),
    Promise(
        "What changed since the run was begun is refused, listed, or said to be meant", "tests/train/test_resume.py"
    ),
    Promise(
        "Each window once an epoch, any step at once, one global batch whoever reads it",
        "tests/data/test_batches.py tests/data/test_examples.py",
    ),
    Promise("No file can hurt", FAULTS + "test_fuzz.py", files),
    Promise("Old checkpoints stay loadable", FAULTS + "test_golden.py"),
    Promise(
        "Half-prepared text is never trained on, and prepared again it has the same bytes",
        FAULTS + "test_preparation.py",
    ),
    Promise("A long run holds on to nothing", FAULTS + "test_flat.py", holding_on),
]


def passed(promise: Promise) -> str:
    """How many tests. Raises where one fails."""
    command = [sys.executable, "-m", "pytest", *promise.tests.split()]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # as in check.py
    done = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found = re.search(r"(\d+) passed", done.stdout)
    assert found, done.stdout
    return f"{found[1]} test{'s' * (found[1] != '1')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--files", type=int, default=2000)
    asked = parser.parse_args()
    begun = time.monotonic()
    terminal = Console(stderr=True)
    tests = [passed(promise) for promise in track(PROMISES, "tests", console=terminal)]
    figures = [
        promise.figure(asked) if promise.figure else ""
        for promise in track(PROMISES, "many attempts", console=terminal)
    ]
    rows = [
        [promise.words, promise.tests, f"{figure}; {number}" if figure else number]
        for promise, figure, number in zip(PROMISES, figures, tests, strict=True)
    ]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HOME, capture_output=True, text=True, check=True
    )
    results = {
        "rows": rows,
        "commit": commit.stdout.strip(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": f"{datetime.date.today():%Y-%m-%d}",
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")
    readme = HOME / "README.md"
    readme.write_text(MARK.sub(lambda m: m[1] + table(results) + m[2], readme.read_text("utf-8")), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def page(results: dict[str, Any]) -> str:
    lines = [INTRODUCTION, "| promise | held by | last figure |", "|---|---|---|"]
    lines += [f"| {words} | `{tests}` | {figure} |" for words, tests, figure in results["rows"]]
    lines.append(
        f"\n{results['date']}, commit {results['commit']}, {results['machine']}; {results['minutes']} minutes in all.\n"
    )
    return "\n".join(lines)


def table(results: dict[str, Any]) -> str:
    """The README's."""
    lines = ["| promise | last figure |", "|---|---|"]
    lines += [f"| {words} | {figure} |" for words, _, figure in results["rows"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
