"""What RUN means on the command line: a run or one checkpoint, and the newest run where nothing is said."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from glassgpt.checkpoint.commit import MANIFEST
from glassgpt.checkpoint.files import verify_checkpoint
from glassgpt.checkpoint.new_run import is_empty
from glassgpt.checkpoint.run import RUNS, Run
from glassgpt.disk import as_argument
from glassgpt.errors import CheckpointError, DamageError

OURS = (MANIFEST, "state.json")  # one of them is in every checkpoint, however damaged
MOST_NAMED = 8  # runs, in a message
NOT_FOR_SAMPLING = ("optimizer.safetensors",)  # twice as large as the weights, and read by a resume only


def open_run(folder: Path | None) -> Run:
    """The run at `folder`, or the one that the checkpoint at `folder` is of; None: the newest one under runs/."""
    if folder is None:
        runs = [entry for entry in RUNS.iterdir() if (entry / "config.toml").is_file()] if RUNS.is_dir() else []
        if not runs:
            raise CheckpointError("there is no run under runs/ yet; train one with: glassgpt train")
        folder = max(runs, key=lambda entry: (entry / "config.toml").stat().st_mtime)
    if not folder.exists():
        meant = f"did you mean {as_argument(RUNS / folder)}?" if (RUNS / folder).exists() else _existing_runs()
        raise CheckpointError(f"run {folder} is not there; {meant}")
    if not folder.is_dir():
        around = next((place for place in folder.parents if (place / "config.toml").is_file()), None)
        hint = f"name the run that it is in: {as_argument(around)}" if around else _existing_runs()
        raise CheckpointError(f"{folder} is not a run, nor a checkpoint, which are folders; {hint}")
    if is_checkpoint(folder) and (run := run_of(folder)) is not None:
        return run
    if not (folder / "config.toml").is_file():
        if steps := Run(folder).steps():
            newest = as_argument(Run(folder).checkpoint_folder(steps[-1]))
            raise DamageError(
                f"{folder} has no config.toml any more, and a run cannot go on without its settings; bring it back, or use "
                f"the model as it is: glassgpt sample {newest}, or --from it in a new run"
            )
        inside = sorted(str(entry) for entry in folder.iterdir() if is_checkpoint(entry))
        hint = f"it holds checkpoints: name one ({inside[-1]})" if inside else _existing_runs()
        if is_empty(folder):
            hint = f"nothing was saved in it; train a run there with: glassgpt train --out {as_argument(folder)}"
        raise CheckpointError(f"{folder} is not a run: it has no config.toml; {hint}")
    return Run(folder)


def find_checkpoint(path: Path | None, report: Callable[[str], object] = warnings.warn) -> Path:
    """The whole checkpoint that RUN means for sampling and inspection: itself, or the best one of the run, or where that is
    damaged the newest whole one, which is reported.

    Raises CheckpointError where there is none, or where the one that is named is damaged.
    """
    if path is not None and (path / "config.json").is_file() and not any((path / n).is_file() for n in OURS):
        raise CheckpointError(
            f"{path} is a Hugging Face folder; bring it in first: glassgpt import {as_argument(path)} --out NAME"
        )
    if path is not None and is_checkpoint(path):
        reason = verify_checkpoint(path, without=NOT_FOR_SAMPLING)
        if reason:
            run = run_of(path)
            whole = (
                [str(run.checkpoint_folder(s)) for s in run.steps() if not run.problem_of(s, NOT_FOR_SAMPLING)]
                if run
                else []
            )
            raise CheckpointError(
                f"{path} is damaged: {reason}; name another checkpoint ({', '.join(whole) or 'none is whole'})"
            )
        return path
    run = open_run(path)
    steps, best = run.steps(), run.best()
    if not steps:
        raise nothing_saved(run)
    order = sorted(steps, key=lambda step: (best is not None and step == best["step"], step), reverse=True)
    wanted = run.checkpoint_folder(order[0])
    reason = None
    if best is not None and best["step"] not in steps:
        report(f"the best checkpoint, of step {best['step']}, is gone; taking {wanted} instead")
    for step in order:
        problem = run.problem_of(step, without=NOT_FOR_SAMPLING)
        if problem is None:
            if reason:
                report(f"{wanted} is damaged: {reason}; taking {run.checkpoint_folder(step)} instead")
            return run.checkpoint_folder(step)
        reason = reason or problem
    raise DamageError(f"no checkpoint of {run.folder} is whole; of {wanted.name}, {reason}")


def steps_done(run: Run) -> int:
    """As far as anything in its folder tells."""
    steps: list[int] = [line["step"] for line in run.metrics()]
    return max([0, *steps, *run.steps()])


def nothing_saved(run: Run) -> CheckpointError:
    """Of a run without a whole checkpoint. What it has done is not done again in its place unless nothing was."""
    if steps := steps_done(run):
        what, damaged = "checkpoint", run.steps()
        if damaged:
            newest = run.checkpoint_folder(damaged[-1])
            what = f"whole checkpoint (of {newest.name}, {run.problem_of(damaged[-1])})"
        readable = [step for step in damaged if not run.problem_of(step, NOT_FOR_SAMPLING)]
        weights = f"; the weights of step {readable[-1]:,} are whole, for --from in a new run" if readable else ""
        return DamageError(
            f"{run.folder} has done {steps:,} steps and has no {what} any more; bring one back, or begin again in a new "
            f"folder: glassgpt train --config {as_argument(run.config_file)}{weights}"
        )
    return CheckpointError(
        f"{run.folder} has no checkpoint yet: it was stopped before its first one, or has just begun; begin it again with: "
        f"glassgpt resume {as_argument(run.folder)}, or delete it"
    )


def is_checkpoint(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or (folder / "model.safetensors").is_file()


def run_of(checkpoint: Path) -> Run | None:
    """The run that a checkpoint lies in, or None where it was copied elsewhere."""
    run = Run(Path(os.path.normpath(checkpoint / ".." / "..")))
    return run if run.config_file.is_file() else None


def _existing_runs() -> str:
    names = sorted(str(entry) for entry in RUNS.iterdir() if entry.is_dir()) if RUNS.is_dir() else []
    if not names:
        return "there is none under runs/ yet; train one with: glassgpt train"
    shown = names[:MOST_NAMED]
    more = f" and {len(names) - len(shown)} more" if names[MOST_NAMED:] else ""
    return f"there are: {', '.join(shown)}{more}"
