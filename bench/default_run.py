"""The default run, `glassgpt train`, at several commits of this repository: whole commands, in turn, on one machine.

    python bench/default_run.py COMMIT ... --rounds 2

Writes its part of docs/benchmarks.md.
"""

import argparse
import datetime
import json
import os
import subprocess
import tempfile
from pathlib import Path

from claims import GLASSGPT, HOME, machine, spread, timed

from train import write_page


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HOME, check=True, capture_output=True, text=True).stdout.strip()


def checked_out(commit: str, folder: Path) -> Path:
    """A clone at `commit`, whose package is imported there before the one that is installed."""
    git("clone", "--quiet", "--no-checkout", str(HOME), str(folder / commit))
    git("-C", str(folder / commit), "checkout", "--quiet", commit)
    return folder / commit


def train(clone: Path, run: Path) -> dict[str, float]:
    """What result.json says of a run, and `process_seconds`, those of the whole command."""
    os.environ["PYTHONPATH"] = str(clone / "src")
    seconds, _ = timed([*GLASSGPT, "train", "--out", str(run)], clone)
    return json.loads((run / "result.json").read_text("utf-8")) | {"process_seconds": seconds}


def table(found: dict[str, list[dict[str, float]]], about: str) -> str:
    lines = [
        """## The default run

`python bench/default_run.py COMMIT ...`: `glassgpt train` on the built-in corpus, the whole command, at several commits, in
turn on one machine; median (least to most).

| commit | seconds | steps | bits a byte |
|---|---|---|---|"""
    ]
    for commit, runs in found.items():
        columns = [
            spread([run[key] for run in runs], digits)
            for key, digits in (("process_seconds", 0), ("steps", 0), ("bits_per_byte", 3))
        ]
        lines.append(f"| {commit}, {git('log', '-1', '--format=%cs', commit)} | {' | '.join(columns)} |")
    return "\n".join([*lines, "", about, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs="+")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    commits = [git("rev-parse", "--short", commit) for commit in options.commits]
    found: dict[str, list[dict[str, float]]] = {commit: [] for commit in commits}
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["GLASSGPT_CACHE"] = str(Path(temporary, "cache"))
        clones = {commit: checked_out(commit, Path(temporary)) for commit in commits}
        for number in range(options.rounds):
            for commit, clone in clones.items():
                run = train(clone, Path(temporary, f"{commit}-{number}"))
                found[commit].append(run)
                print(f"{commit} {run['process_seconds']:8.1f} s {run['bits_per_byte']:8.4f} bits a byte", flush=True)
    write_page("default run", {"text": table(found, f"{datetime.date.today().isoformat()}, {machine()}.")})


if __name__ == "__main__":
    main()
