"""Going on with a run: what it was begun with stays as it was, unless somebody says otherwise."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from glassgpt.checkpoint import PARENT, Checkpoint, Run, load_checkpoint
from glassgpt.checkpoint.files import require_resumable
from glassgpt.checkpoint.find import nothing_saved, steps_done
from glassgpt.checkpoint.verify import of_another_text
from glassgpt.config import RunConfig
from glassgpt.config.cache_folder import cache_folder
from glassgpt.config.changes import FIXED, changed_settings
from glassgpt.config.schema import INTERVALS, shown_name
from glassgpt.data import DataFolder
from glassgpt.data.prepare import load_if_whole
from glassgpt.disk import as_argument
from glassgpt.errors import CheckpointError, ConfigError, DataError
from glassgpt.finetune import Template
from glassgpt.formats.huggingface import companions_in
from glassgpt.machine import threads_restored
from glassgpt.tokenizer import Tokenizer
from glassgpt.train.fit import fit_to_data
from glassgpt.train.observers import Observer, tell
from glassgpt.train.parent import Parent, fit_to_parent, open_parent, tokenizer_for
from glassgpt.train.run import Sampler, build_trainer, carried_by, finish, open_data, save_parent
from glassgpt.train.settle import settle_machine
from glassgpt.train.state import restore

# What a trial found out about replicas holds as long as these stay.
DECIDE_REPLICAS = {"device", "threads", "compile", "gradient_checkpointing", "micro_batch_size"}


@threads_restored()
def resume_run(
    run: Run,
    *,
    changes: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    sample: Sampler | None = None,
) -> Run:
    """Go on from the run's last whole checkpoint, or from step 0 where there is none yet. `changes` are settings that are
    meant to differ from what the run was begun with. Raises a GlassError where it cannot go on as the same run."""
    started = time.monotonic()
    changes = dict(changes or {})
    with run.locked(lambda line: tell(observers, line)):
        before = run.config()
        config = with_changes(before, changes) if changes else before
        folder, damaged = run.last_whole_checkpoint()
        if folder is None and steps_done(run):
            raise nothing_saved(run)
        checkpoint = load_checkpoint(folder) if folder else None
        if checkpoint:
            require_resumable(checkpoint.folder)
            require_same_run(run, config, checkpoint)
        best = run.best()
        if best and best["step"] in run.steps() and (reason := run.problem_of(best["step"])):
            damaged[run.checkpoint_folder(best["step"])] = reason
        if checkpoint and checkpoint.state["step"] > config.train.max_steps > 0:
            advice = "leave it out, or raise it"
            if "max_steps" not in changes:
                advice = f"raise it, or move {checkpoint.folder.name} out of {run.checkpoints_folder} if it is of another run"
            raise ConfigError(
                f"max_steps {config.train.max_steps} is less than the {checkpoint.state['step']} steps that {run.folder} has "
                f"done already; {advice}"
            )
        if checkpoint and "micro_batch_size" not in changes:
            # That of the checkpoint: where memory ran out later, it does so again, at the same step.
            size = checkpoint.state["settings"].get("micro_batch_size") or config.train.micro_batch_size
            # Changed by a resume that may have been killed before it had saved anything.
            if "micro_batch_size" in dict(config.changed):
                size = min(size, config.train.micro_batch_size)
            config = config.resolved(micro_batch_size=size)
        if checkpoint:
            require_meant(run, config, changes, checkpoint)
        if checkpoint and checkpoint.state["step"] >= config.train.max_steps > 0 and run.result():
            done = f"{run.folder} is complete: all {config.train.max_steps} steps are done"
            if changes.keys() - {"max_steps"}:
                raise ConfigError(f"{done}; use it, train on with a higher --max-steps, or start a new run")
            for rejected, reason in damaged.items():
                tell(observers, f"{rejected.name} is damaged: {reason}")
            tell(observers, f"{done}; to train on, give it a higher --max-steps")
            return run
        if checkpoint:
            run.require_room(checkpoint.folder)
        parent, tokenizer = reopen_parent(config, run, checkpoint)
        known = checkpoint if checkpoint else parent
        template = known.template if known and config.finetune.from_ else None
        data = reopen_data(config, observers, checkpoint, tokenizer, template)
        for rejected, reason in damaged.items():
            tell(observers, f"{rejected.name} is damaged: {reason}; kept as {run.put_aside(rejected).name}")
        if checkpoint is None:
            tell(observers, "nothing was saved yet: the run begins again at its first step")
        if (
            parent is not None and config.finetune.lora and not (run.folder / PARENT).is_dir()
        ):  # killed before it was there
            save_parent(run, parent, data)
        config, model, loss = settle_machine(fit_to_data(config, data), data, observers, parent)
        if changes:  # "auto" and 0 have become what they stand for
            config = replace(config, changed=tuple((name, config.flat()[name]) for name, _ in config.changed))
        carried = carried_by(companions_in(checkpoint.state) if checkpoint else parent.carried if parent else None)
        parent = None  # its weights are in the model now
        trainer = build_trainer(run, config, model, loss, data, observers, sample, started, carried, template)
        if checkpoint:
            restore(trainer, checkpoint)
        else:
            run.metrics_file.write_bytes(b"")
        run.result_file.unlink(missing_ok=True)
        if changes:
            run.write_config(config)
        # Also those of an earlier resume that was stopped before it had saved anything.
        asked = {name for name, _ in config.changed}
        were = checkpoint.state["settings"] if checkpoint else before.flat()
        if differences := changed_settings(were, config, also=asked):
            trainer.tell("on_change", trainer.step, differences)
        return finish(trainer)


def with_changes(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The settings of a run that goes on with others, and which those were."""
    if changes.get("max_steps") == 0:
        raise ConfigError(
            "max_steps is 0; a run under way is told in steps how long it is: --max-steps N, N at least 1"
        )
    if "max_steps" in changes:
        config = config.resolved(minutes=0.0, max_steps=config.train.max_steps or 1)
        if changes["max_steps"] != config.train.max_steps:  # what followed from the old length follows from the new one
            followed = [name for name in INTERVALS if name not in config.asked]
            config = config.resolved(**dict.fromkeys(followed, 0))
    if changes.keys() & DECIDE_REPLICAS and "replicas" not in config.asked:
        config = config.resolved(replicas=0)
    config = config.with_values(**changes)
    meant = dict(config.changed) | {name: value for name, value in config.flat().items() if name in changes}
    return replace(config, changed=tuple(meant.items()))


def require_same_run(run: Run, config: RunConfig, checkpoint: Checkpoint) -> None:
    """Raises where a checkpoint, or config.toml, cannot be of the run that was begun here."""
    for folder, reason in of_another_text(map(run.checkpoint_folder, run.steps())).items():
        raise CheckpointError(
            f"{folder} is of another run than the oldest checkpoint: {reason}; move whichever does not belong to {run.folder} "
            f"out of {run.checkpoints_folder}"
        )
    differences = changed_settings(checkpoint.state["settings"], config)
    if refused := {name: pair for name, pair in differences.items() if name in FIXED}:
        unsaid = {name: pair for name, pair in differences.items() if name not in (*FIXED, *dict(config.changed))}
        besides = f"; changed besides: {in_words(unsaid)}" if unsaid else ""
        raise ConfigError(
            f"{run.config_file} is not what the run was begun with: {in_words(refused)}; this cannot change on the way: "
            f"change it back, or start a new run; or, if {checkpoint.folder.name} was put there from another run, move that "
            f"out of {run.checkpoints_folder}{besides}"
        )


def require_meant(run: Run, config: RunConfig, changes: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Raises ConfigError unless every difference was asked for, now or at an earlier resume."""
    meant = dict(config.changed)
    differences = changed_settings(checkpoint.state["settings"], config)
    unsaid = {name: (was, now) for name, (was, now) in differences.items() if meant.get(name, was) != now}
    if not unsaid:
        return
    advice = "change it back"
    if config.train.max_steps or "max_steps" not in unsaid:  # a run under way is told in steps how long it is
        said = dict(changes) | {name: now for name, (_, now) in unsaid.items()}
        flags = " ".join(as_flag(name, value) for name, value in said.items())
        advice += f", or say that it is meant: glassgpt resume {as_argument(run.folder)} {flags}"
    raise ConfigError(
        f"{run.config_file} is not what {checkpoint.folder.name} was trained with: {in_words(unsaid)}; {advice}; or, if that "
        f"checkpoint is of another run, move it out of {run.checkpoints_folder}"
    )


def as_flag(name: str, value: Any) -> str:
    flag = shown_name(name).replace("_", "-")
    return f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {value}"


def in_words(differences: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{shown_name(name)} was {was!r} and is {now!r}" for name, (was, now) in differences.items())


def reopen_parent(config: RunConfig, run: Run, checkpoint: Checkpoint | None) -> tuple[Parent | None, Tokenizer | None]:
    """What a run that goes on still needs of the model it began with: its weights beside adapters, or where nothing was saved
    yet; its tokenizer in any case."""
    if not config.finetune.from_:
        return None, None
    if checkpoint and not config.finetune.lora:
        return None, checkpoint.tokenizer()
    kept = run.folder / PARENT
    if checkpoint and not kept.is_dir():
        raise CheckpointError(f"{kept} is gone, the model that this run's adapters belong to; bring it back")
    parent = open_parent(str(kept) if kept.is_dir() else config.finetune.from_, config)
    config, parent = fit_to_parent(config, parent)
    return parent, parent.tokenizer or tokenizer_for(config, parent)


def reopen_data(
    config: RunConfig,
    observers: Sequence[Observer],
    checkpoint: Checkpoint | None,
    tokenizer: Tokenizer | None,
    template: Template | None,
) -> DataFolder:
    """The text of a run that goes on: from the cache without reading it again, else prepared anew and compared."""
    if checkpoint is None:
        return open_data(config, observers, tokenizer, template)
    cached = cache_folder() / "data" / checkpoint.state["data_fingerprint"]
    same_place = list(config.data.data) == checkpoint.state["settings"].get("data")
    data = load_if_whole(cached) if same_place else None
    if data is None:
        if "-" in config.data.data and sys.stdin.isatty():
            raise DataError(
                "this run's text came from standard input and is no longer in the cache; pipe it in once more"
            )
        try:
            data = open_data(config, observers, tokenizer, template)
        except DataError as error:
            raise DataError(
                f"the text of this run cannot be read from here ({error}); resume from the folder where it was begun, or name "
                "the text's new place under [data] in the run's config.toml"
            ) from error
    if data.meta.content_hash != checkpoint.state["data_content"]:
        raise DataError(
            f"the text or tokenizer of {', '.join(config.data.data)} has changed since this run began; "
            "bring the old text back, or start a new run"
        )
    return data
