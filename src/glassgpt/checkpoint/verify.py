"""Whether a run is still what was written: each of its checkpoints, and its own files."""

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from glassgpt.checkpoint.files import PARENT, read_state, require_resumable, verify_checkpoint
from glassgpt.checkpoint.find import is_checkpoint, nothing_saved, open_run, run_of
from glassgpt.checkpoint.metrics import garbled_lines, lost_bytes
from glassgpt.checkpoint.run import STEP_FOLDER, Run
from glassgpt.config import RunConfig
from glassgpt.config.changes import FIXED, changed_settings
from glassgpt.config.load import load_config, why_not_whole
from glassgpt.config.schema import shown_name
from glassgpt.disk import size_of
from glassgpt.errors import CheckpointError, ConfigError


class Verified(NamedTuple):
    path: Path  # a checkpoint, or a damaged file
    is_checkpoint: bool
    bytes: int
    problem: str | None  # why it is not whole


def verify_run(path: Path | None) -> list[Verified]:
    """Every checkpoint that RUN means, the oldest first, each file of it read again; the model that a run with adapters goes
    on from comes first, and last what is damaged of the run's own files. Raises CheckpointError where there is none."""
    if path is not None and is_checkpoint(path):
        named, its_run = STEP_FOLDER.fullmatch(path.resolve().name), run_of(path)
        problem = problem_in(its_run, int(named[1])) if named and its_run else verify_checkpoint(path)
        return [Verified(path, True, size_of(path), problem)]
    run = open_run(path)
    edited = problem_of_config(run)
    config = None if edited else run.config()
    found = []
    for step in run.steps():
        folder = run.checkpoint_folder(step)
        entry = Verified(folder, True, size_of(folder), problem_in(run, step))
        if folder.exists():  # a run that is being trained removes older ones
            found.append(entry)
    found += [Verified(entry, True, 0, problem) for entry, problem in run.no_folders().items()]
    if not found:
        raise nothing_saved(run)
    if config is not None:
        whole = [entry.path for entry in found if not entry.problem]
        strange = {folder: words for folder in whole if (words := other_settings(folder, config))}
        if whole and len(strange) == len(whole):
            edited = f"is not what the run was begun with: {strange[whole[-1]]}"
        else:  # one that fits shows that it is not config.toml that was edited
            strange |= of_another_text(whole)
            found = [
                e._replace(problem=f"is of another run: {strange[e.path]}") if e.path in strange else e for e in found
            ]
    parent = run.folder / PARENT
    if parent.is_dir():
        found.insert(0, Verified(parent, True, size_of(parent), verify_checkpoint(parent)))
    elif config is not None and config.finetune.lora:
        found.insert(0, Verified(parent, True, 0, "is gone, and the adapters belong to that model"))
    return found + [
        Verified(file, False, file.stat().st_size if file.is_file() else 0, problem)
        for file, problem in (
            (run.config_file, edited),
            (run.metrics_file, problem_of_metrics(run)),
            (run.best_file, problem_of_best(run) or problem_of_best_step(run)),
            (run.result_file, problem_of_result(run)),
        )
        if problem
    ]


def problem_of_config(run: Run) -> str | None:
    """What is wrong with config.toml, in words that follow its name."""
    if problem := why_not_whole(run.config_file):
        return problem
    try:
        load_config(run.config_file)
    except ConfigError as error:
        return f"describes no run: {str(error).removeprefix(f'{run.config_file}: ')}"
    return None


def problem_of_metrics(run: Run) -> str | None:
    """That metrics.jsonl is damaged, or shorter than the checkpoints know it, in words that follow its name."""
    if run.metrics_file.exists() and not run.metrics_file.is_file():
        return "is no file"
    known = (newest_state(run) or {}).get("metrics_bytes", 0)
    if not run.metrics_file.exists():
        return "is gone" if known else None
    return garbled_lines(run.metrics_file) or lost_bytes(run.metrics_file, known)


def newest_state(run: Run) -> dict[str, Any] | None:
    """Of the newest checkpoint whose state can be read."""
    for step in reversed(run.steps()):
        with suppress(CheckpointError):
            return read_state(run.checkpoint_folder(step))
    return None


def problem_of_best(run: Run) -> str | None:
    """What is wrong with best.json, in words that follow its name; None where it is well, or not there yet."""
    if (best := run.written_best()) is not None:
        return contradiction(run, best)
    if run.best_file.exists():
        return "is garbled"
    return "is gone" if run.best_of_metrics() else None


def contradiction(run: Run, best: dict[str, Any]) -> str | None:
    """The state of a checkpoint, which has a hash, knows the best one before it; metrics.jsonl has eight digits of all."""
    known = (newest_state(run) or {}).get("best") or {}
    said = known.get("val_loss") if known.get("step") == best["step"] else None
    if said is None:
        lines = [line for line in run.metrics() if line["step"] == best["step"] and "val_loss" in line]
        said = lines[-1]["val_loss"] if lines else best["val_loss"]
    if math.isclose(said, best["val_loss"], rel_tol=1e-6):
        return None
    return f"says {best['val_loss']:.6g} of step {best['step']}, which was {said:.6g}"


def problem_of_best_step(run: Run) -> str | None:
    """That its checkpoint is not there, in words that follow its name."""
    best = run.written_best()
    if best is None or best["step"] in run.steps():
        return None
    return f"names step {best['step']}, whose checkpoint is gone"


def problem_of_result(run: Run) -> str | None:
    """In words that follow its name."""
    return "is garbled" if run.result_file.exists() and run.result() is None else None


def problem_in(run: Run, step: int) -> str | None:
    """Why the run cannot go on from its checkpoint of `step`, as far as the checkpoint itself tells."""
    folder = run.checkpoint_folder(step)
    if problem := run.problem_of(step):
        return problem
    try:
        require_resumable(folder)
    except CheckpointError as error:
        return str(error).removeprefix(f"{folder}{os.sep}")
    return None


def other_settings(checkpoint: Path, config: RunConfig) -> str | None:
    """What cannot change within a run, and was another thing for this checkpoint than its run's `config` says, in words."""
    try:
        settings = read_state(checkpoint).get("settings")
    except CheckpointError:  # removed meanwhile
        return None
    differ = changed_settings(settings, config) if settings else {}
    named = [
        f"{shown_name(name)} was {differ[name][0]!r} and is {differ[name][1]!r}" for name in FIXED if name in differ
    ]
    return ", ".join(named) or None


def of_another_text(checkpoints: Iterable[Path]) -> dict[Path, str]:
    """Those that were trained on another text than the first of them, in words."""
    texts = {}
    for folder in checkpoints:
        with suppress(CheckpointError):
            texts[folder] = read_state(folder).get("data_content")
    first = next(iter(texts), None)
    return {f: f"its text is not that of {first.name}" for f, text in texts.items() if first and text != texts[first]}
