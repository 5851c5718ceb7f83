"""What a run's folder tells, as plain numbers and words: what a page shows of one run."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from glassgpt.checkpoint import Run, open_run, read_json, run_of
from glassgpt.checkpoint.files import CONFIG
from glassgpt.checkpoint.find import is_checkpoint
from glassgpt.checkpoint.metrics import are_counts, smoothed
from glassgpt.config import RunConfig
from glassgpt.config.schema import FIELDS, SECTION_OF, SECTIONS, shown_name
from glassgpt.disk import as_argument
from glassgpt.errors import CheckpointError
from glassgpt.inspection.figures import Lines, figures_of, in_words, number, rows_of

# Of a long run: what a page can draw, and a person read.
MOST_POINTS, MOST_SAMPLES, MOST_FAULTS, LONGEST_SAMPLE = 2000, 40, 20, 20_000
SAMPLE_FILE = re.compile(r"step-(\d+)\.txt")
CURVES = ("step", "tokens", "seconds", "train_loss", "learning_rate", "grad_norm", "tokens_per_second")
VALIDATION = ("step", "val_loss", "bits_per_byte", "accuracy")

Report = dict[str, Any]


def run_with_figures(path: Path | None) -> Run:
    """The run at `path`, or that of the checkpoint there; None: the newest one. Raises CheckpointError where there is none,
    or where nothing is known of its training yet."""
    if path is not None and is_checkpoint(path) and run_of(path) is None:
        raise CheckpointError(
            f"{path} is a model without the run that trained it, so that there are no figures to report; look into the model "
            f"instead: glassgpt inspect {as_argument(path)}"
        )
    run = open_run(path)
    if not run.metrics():
        raise CheckpointError(
            f"{run.folder} has no figures yet: metrics.jsonl is empty or gone, and a report is made of its lines; wait for "
            f"the first step, or go on with: glassgpt resume {as_argument(run.folder)}"
        )
    return run


def report_run(run: Run) -> Report:
    """All that the folder of a run tells of it. What was never written is None or empty: of a run that goes on, or was killed,
    the result and the environment. Numbers are those of metrics.jsonl and result.json; only `smoothed` is computed."""
    config, lines, result = run.config(), run.metrics(), run.result()
    steps = [line for line in lines if "tokens" in line]
    validated = [line for line in lines if "val_loss" in line]
    faults = [{name: line.get(name) for name in ("step", "skipped", "fault")} for line in lines if "fault" in line]
    figures = figures_of(steps, validated, result, max(run.steps(), default=None))
    curves = curves_of(steps)
    return {
        "name": run.folder.resolve().name,
        "folder": str(run.folder),
        "complete": result is not None,
        "max_steps": config.train.max_steps,
        "preset": config.preset,
        "task": result["task"] if result else config.data.task,
        "figures": figures,
        "rows": rows_of(figures),
        "points": len(steps),
        "curves": thinned(curves),
        "validation": validation_of(validated, curves),
        "confusion": confusion_of(run, validated, figures.get("best_step")),
        "faults": {
            "count": len(faults),
            "skipped": sum(fault["skipped"] is True for fault in faults),
            "first": [fault | {"fault": str(fault["fault"])} for fault in faults[:MOST_FAULTS]],
        },
        "changes": changes_of(lines),
        "samples": samples_of(run),
        "settings": settings_of(config),
        "environment": environment_of(result),
    }


def curves_of(steps: Lines) -> dict[str, list[Any]]:
    """A list for each figure of the logged steps, None where it was not finite; `smoothed` is the train_loss."""
    curves = {name: [number(line.get(name)) for line in steps] for name in CURVES}
    finite = [i for i, loss in enumerate(curves["train_loss"]) if loss is not None]
    curves["smoothed"] = [None] * len(steps)
    for i, mean in zip(finite, smoothed([curves["train_loss"][i] for i in finite]), strict=True):
        curves["smoothed"][i] = number(mean)
    return curves


def thinned(curves: dict[str, list[Any]], most: int = MOST_POINTS) -> dict[str, list[Any]]:
    """At most so many points: of neighbours those with the lowest and the highest train_loss, so that no leap is lost."""
    losses = [-math.inf if loss is None else loss for loss in curves["train_loss"]]
    count = len(losses)
    if count <= most:
        return curves
    width = -(-2 * count // (most - 2))
    kept = {0, count - 1}
    for start in range(0, count, width):
        inside = range(start, min(start + width, count))
        kept |= {min(inside, key=losses.__getitem__), max(inside, key=losses.__getitem__)}
    return {name: [values[i] for i in sorted(kept)] for name, values in curves.items()}


def validation_of(validated: Lines, curves: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A list for each figure; tokens and seconds of those steps lie between those of the logged ones."""
    found = {name: [number(line.get(name)) for line in validated] for name in VALIDATION}
    found = {name: values for name, values in found.items() if name == "step" or any(v is not None for v in values)}
    for name in ("tokens", "seconds"):
        known = [i for i, value in enumerate(curves[name]) if value is not None]
        at, values = ([curves[column][i] for i in known] for column in ("step", name))
        found[name] = np.interp(found["step"], at, values).tolist() if known else [None] * len(validated)
    return found


def confusion_of(run: Run, validated: Lines, best: int | None) -> Report | None:
    """Of the best step, or else the last validation: {"labels", "counts"}, row the true one; None where there are no
    labels."""
    tables = [line for line in validated if isinstance(line.get("confusion"), list)]
    tables = [line for line in tables if are_counts(line["confusion"], len(line["confusion"]))]
    if not tables:
        return None
    line = next((line for line in tables if line["step"] == best), tables[-1])
    labels = labels_of(run)
    count = len(line["confusion"])
    return {
        "step": line["step"],
        "labels": labels if len(labels) == count else [str(number) for number in range(count)],
        "counts": line["confusion"],
    }


def labels_of(run: Run) -> list[str]:
    for step in reversed(run.steps()):
        try:
            return [str(label) for label in read_json(run.checkpoint_folder(step) / CONFIG)["labels"]]
        except (CheckpointError, KeyError, TypeError):
            continue
    return []


def changes_of(lines: Lines) -> list[Report]:
    """What a flag of resume changed: from which step on, and each setting with what it was and what it is."""
    return [
        {
            "step": line["step"] + 1,
            "settings": [
                [shown_name(name), *map(in_words, pair)]
                for name, pair in line["changed"].items()
                if isinstance(pair, list) and len(pair) == 2
            ],
        }
        for line in lines
        if isinstance(line.get("changed"), dict)
    ]


def samples_of(run: Run) -> list[Report]:
    """What the model wrote, by its step; of many those that lie evenly between the first and the last."""
    entries = run.samples_folder.iterdir() if run.samples_folder.is_dir() else []
    found = sorted(
        (int(match[1]), entry) for entry in entries if (match := SAMPLE_FILE.fullmatch(entry.name)) and entry.is_file()
    )
    if len(found) > MOST_SAMPLES:
        found = [found[round(i * (len(found) - 1) / (MOST_SAMPLES - 1))] for i in range(MOST_SAMPLES)]
    return [
        {"step": step, "text": entry.read_text(encoding="utf-8", errors="replace")[:LONGEST_SAMPLE]}
        for step, entry in found
    ]


def settings_of(config: RunConfig) -> list[Report]:
    """Every setting, in the order of config.toml: its value, its default, and whether a person asked for it."""
    asked = {*config.asked, *(name for name, _ in config.changed)}
    return [
        {
            "section": section,
            "settings": [
                {
                    "name": shown_name(name),
                    "value": in_words(value),
                    "default": in_words(FIELDS[name].default),
                    "asked": name in asked,
                    "differs": value != FIELDS[name].default,
                    "doc": FIELDS[name].metadata["doc"],
                }
                for name, value in config.flat().items()
                if SECTION_OF[name] == section
            ],
        }
        for section in SECTIONS
    ]


def environment_of(result: dict[str, Any] | None) -> list[tuple[str, str]]:
    environment = (result or {}).get("environment")
    return [(name, str(value)) for name, value in environment.items()] if isinstance(environment, dict) else []
