"""What a run's folder tells, as plain numbers and words: what a page shows of one run."""

import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from glassgpt.checkpoint import Run, open_run, read_json, run_of
from glassgpt.checkpoint.files import CONFIG, WEIGHTS
from glassgpt.checkpoint.find import is_checkpoint
from glassgpt.checkpoint.metrics import are_counts, smoothed
from glassgpt.checkpoint.verify import newest_state
from glassgpt.config import RunConfig
from glassgpt.config.cache_folder import cache_folder
from glassgpt.config.schema import shown_name
from glassgpt.data.meta import read_meta
from glassgpt.disk import as_argument
from glassgpt.errors import CheckpointError, ConfigError, DataError
from glassgpt.inspection.figures import KINDS, Figures, Lines, figures_of, in_words, number, rows_of
from glassgpt.inspection.settings import settings_of
from glassgpt.inspection.standing import standing_of
from glassgpt.model.size import count_parameters

# Of a long run: what a page can draw, and a person read.
MOST_POINTS, MOST_VALIDATIONS = 2000, 200
MOST_SAMPLES, MOST_FAULTS, LONGEST_SAMPLE = 40, 20, 20_000
SAMPLE_FILE = re.compile(r"step-(\d+)\.txt")
CURVES = ("step", "tokens", "seconds", "train_loss", "learning_rate", "grad_norm", "tokens_per_second")
VALIDATION = ("step", "val_loss", "bits_per_byte", "accuracy")
# What a sample is, by the task.
WROTE = {
    "text": "what the model wrote by itself",
    "conversations": "what the model answered to the first conversation for validation",
    "labels": "what the model said of the first texts for validation",
}

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
        rest = (
            f"wait for the first step, or go on with: glassgpt resume {as_argument(run.folder)}"
            if run.result() is None
            else "the run is complete, and its last figures are in result.json"
        )
        raise CheckpointError(
            f"{run.folder} has no figures: metrics.jsonl is empty or gone, and a report is made of its lines; {rest}"
        )
    return run


def report_run(run: Run) -> Report:
    """All that the folder of a run tells of it. What was never written is None or empty: of a run that goes on, or was killed,
    the result and the environment. Numbers are those of its files; only `smoothed` is computed, and where there is no result
    what follows from the model and the text; which are `unknown` all the same is said."""
    config, lines, result = run.config(), run.metrics(), run.result()
    steps = [line for line in lines if "tokens" in line]
    validated = [line for line in lines if "val_loss" in line]
    faults = [{name: line.get(name) for name in ("step", "skipped", "fault")} for line in lines if "fault" in line]
    task = str(result["task"]) if result else config.data.task  # nobody has checked what it says
    state = (newest_state(run) or {}) if result is None else {}
    fingerprint = (result or state).get("data_fingerprint")
    figures: Figures = {"task": task} | figures_of(steps, validated, result, state, max(run.steps(), default=None))
    unknown = []
    if result is None:
        figures |= baseline_of(config, fingerprint) | {"parameters": parameters_of(run, config)}
        needed = ("seconds", "baseline_accuracy" if task == "labels" else "baseline_bits_per_byte", "parameters")
        unknown = [KINDS[name].label for name in needed if figures.get(name) is None]
    word, line = standing_of(run, result is not None, figures["steps"], config.train.max_steps)
    curves = curves_of(steps)
    validation = validation_of(validated, curves)
    return {
        "name": run.folder.resolve().name,
        "folder": str(run.folder),
        "argument": as_argument(run.folder),
        "complete": result is not None,
        "state": word,
        "standing": line,
        "preset": config.preset,
        "task": task,
        "fingerprint": fingerprint,
        "figures": figures,
        "rows": rows_of(figures),
        "unknown": unknown,
        "points": len(steps),
        "curves": thinned(curves, "train_loss", MOST_POINTS),
        "validations": len(validated),
        "validation": thinned(validation, "val_loss", MOST_VALIDATIONS),
        "confusion": confusion_of(run, validated, figures.get("best_step")),
        "faults": {
            "count": len(faults),
            "skipped": sum(fault["skipped"] is True for fault in faults),
            "first": [fault | {"fault": str(fault["fault"])} for fault in faults[:MOST_FAULTS]],
        },
        "changes": changes_of(lines),
        "wrote": WROTE.get(task, WROTE["text"]),
        "samples": samples_of(run),
        "settings": settings_of(config),
        "environment": environment_of(result),
    }


def parameters_of(run: Run, config: RunConfig) -> int | None:
    """As they are counted where a run is complete; None where only a checkpoint could tell, and none can be read."""
    count, labelled = count_parameters(config.model), config.data.task == "labels"
    if not (labelled or config.finetune.lora):
        return count.total
    for step in reversed(run.steps()):
        with suppress(OSError, SafetensorError), safe_open(run.checkpoint_folder(step) / WEIGHTS, "pt") as file:
            saved = sum(int(math.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
            if not config.finetune.lora:
                return saved
            return saved + (count.without_head if labelled else count.total)  # the adapters alone are saved
    return None


def baseline_of(config: RunConfig, fingerprint: str | None) -> Figures:
    """What can be reached without learning, where the prepared text still lies in the cache, or where it was named."""
    with suppress(ConfigError):  # no home, no cache
        for folder in (cache_folder() / "data" / str(fingerprint), *map(Path, config.data.data)):
            with suppress(DataError, OSError):
                meta = read_meta(folder)
                if meta.fingerprint == fingerprint:
                    return {name: getattr(meta, name) for name in ("baseline_bits_per_byte", "baseline_accuracy")}
    return {}


def curves_of(steps: Lines) -> dict[str, list[Any]]:
    """A list for each figure of the logged steps, None where it was not finite; `smoothed` is the train_loss."""
    curves = {name: [number(line.get(name)) for line in steps] for name in CURVES}
    finite = [i for i, loss in enumerate(curves["train_loss"]) if loss is not None]
    curves["smoothed"] = [None] * len(steps)
    for i, mean in zip(finite, smoothed([curves["train_loss"][i] for i in finite]), strict=True):
        curves["smoothed"][i] = number(mean)
    return curves


def thinned(curves: dict[str, list[Any]], loss: str, most: int) -> dict[str, list[Any]]:
    """At most so many points: of neighbours those with the lowest and the highest `loss`, so that no leap is lost."""
    losses = [-math.inf if value is None else value for value in curves.get(loss, [])]
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


def environment_of(result: dict[str, Any] | None) -> list[tuple[str, str]]:
    environment = (result or {}).get("environment")
    return [(name, str(value)) for name, value in environment.items()] if isinstance(environment, dict) else []
