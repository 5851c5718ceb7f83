"""What RUN means on the command line: a run or one checkpoint, and the newest run where nothing is said."""

import os
import shlex
import subprocess
from pathlib import Path

from glassgpt.checkpoint.commit import MANIFEST, verify_folder
from glassgpt.checkpoint.run import RUNS, Run
from glassgpt.errors import CheckpointError


def open_run(folder: Path | None) -> Run:
    """The run at `folder`, or the one that the checkpoint at `folder` is of; None: the newest one under runs/."""
    if folder is None:
        runs = [entry for entry in RUNS.iterdir() if (entry / "config.toml").is_file()] if RUNS.is_dir() else []
        if not runs:
            raise CheckpointError("there is no run under runs/ yet; train one with: glassgpt train")
        folder = max(runs, key=lambda entry: (entry / "config.toml").stat().st_mtime)
    if not folder.exists():
        raise CheckpointError(f"run {folder} is not there; {_existing_runs()}")
    if is_checkpoint(folder) and (run := run_of(folder)) is not None:
        return run
    if not (folder / "config.toml").is_file():
        raise CheckpointError(f"{folder} is not a run: it has no config.toml; {_existing_runs()}")
    return Run(folder)


def find_checkpoint(path: Path | None) -> Path:
    """The whole checkpoint that RUN means for sampling and inspection: itself, or the best one of the run, or its last.

    Raises CheckpointError where there is none, or where the one that is meant is damaged.
    """
    if path is not None and is_checkpoint(path):
        folder, run = path, run_of(path)
    else:
        run = open_run(path)
        steps, best = run.steps(), run.best()
        if not steps:
            raise CheckpointError(
                f"{run.folder} has no checkpoint yet; go on with: glassgpt resume {as_argument(run.folder)}"
            )
        if best and best["step"] in steps:
            folder = run.checkpoint_folder(best["step"])
        else:
            folder = run.last_whole_checkpoint()[0] or run.checkpoint_folder(steps[-1])
    reason = verify_folder(folder)
    if reason:
        siblings = [run.checkpoint_folder(step) for step in run.steps()] if run else []
        others = ", ".join(str(other) for other in siblings if other.name != folder.name)
        raise CheckpointError(f"{folder} is damaged: {reason}; name another checkpoint ({others or 'there is none'})")
    return folder


def is_checkpoint(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or (folder / "model.safetensors").is_file()


def run_of(checkpoint: Path) -> Run | None:
    """The run that a checkpoint lies in, or None where it was copied elsewhere."""
    run = Run(Path(os.path.normpath(checkpoint / ".." / "..")))
    return run if run.config_file.is_file() else None


def as_argument(path: Path) -> str:
    """A path as one writes it in a shell."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


def _existing_runs() -> str:
    names = sorted(str(entry) for entry in RUNS.iterdir() if entry.is_dir()) if RUNS.is_dir() else []
    return (
        f"there are: {', '.join(names[-8:])}"
        if names
        else "there is none under runs/ yet; train one with: glassgpt train"
    )
