"""From a configuration to a finished run, every step of it: `train_run` begins one, `resume_run` goes on with one."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from glassgpt.checkpoint import Run, check_new_run, create_run, load_checkpoint, save_checkpoint
from glassgpt.checkpoint.checkpoint import PARENT, Checkpoint
from glassgpt.config import RunConfig
from glassgpt.config.cache_folder import cache_folder
from glassgpt.config.schema import SECTION_OF
from glassgpt.data import DataFolder, is_prepared, load_data, prepare_cached, summarize, text_name
from glassgpt.errors import CheckpointError, ConfigError, DataError
from glassgpt.machine import decide_device, decide_threads, describe_environment
from glassgpt.model import LanguageModel
from glassgpt.model.size import count_parameters
from glassgpt.tokenizer import Tokenizer, named_tokenizer
from glassgpt.train.observers import Observer, tell
from glassgpt.train.parent import Parent, fit_to_parent, open_parent, require_same_tokenizer, tokenizer_for
from glassgpt.train.plot import plot_losses
from glassgpt.train.settle import fit_to_data, settle_machine
from glassgpt.train.step import Loss
from glassgpt.train.trainer import Trainer

Sampler = Callable[[LanguageModel, Tokenizer], str]
"""Writes a text with the model as it is: how training shows what it has learned, brought by the caller."""


def train_run(
    config: RunConfig,
    *,
    out: Path | str | None = None,
    observers: Sequence[Observer] = (),
    sample: Sampler | None = None,
    started: float | None = None,
) -> Run:
    """Train from the first step to the last. `started` (time.monotonic) is when the clock of `minutes` began: now, if not
    said. Raises a GlassError where the configuration, the text or the machine does not allow it, Stopped after a signal."""
    started = time.monotonic() if started is None else started
    out = Path(out) if out is not None else None
    check_new_run(out)  # what can be known to fail is said before the text is read
    decide_device(config.machine.device)
    decide_threads(config.machine.threads)
    parent = tokenizer = None
    if config.finetune.from_:
        parent = open_parent(config.finetune.from_, config)
        config, parent = fit_to_parent(config, parent)
        tokenizer = tokenizer_for(config, parent)
    data = open_data(config, observers, tokenizer)
    for line in summarize(data).facts():
        tell(observers, line)
    config = fit_to_data(config, data)
    if 0 < config.train.max_steps < config.train.warmup_steps:
        tell(
            observers,
            f"the warmup of {config.train.warmup_steps} steps is longer than the run of {config.train.max_steps}: "
            "the learning rate never reaches its height",
        )
    config, model, loss = settle_machine(config, data, observers, parent)
    run = create_run(out, text_name(config.data.data))
    with run.locked():
        run.write_config(config)
        if parent is not None and config.finetune.lora:  # so that the run is complete in itself
            save_parent(run, parent, data)
        parent = None  # its weights are in the model now
        trainer = build_trainer(run, config, model, loss, data, observers, sample, started)
        return finish(trainer, started)


def resume_run(run: Run, *, observers: Sequence[Observer] = (), sample: Sampler | None = None) -> Run:
    """Go on from the run's last whole checkpoint, or from step 0 where there is none yet."""
    started = time.monotonic()
    with run.locked():
        config = run.config()
        folder, damaged = run.last_whole_checkpoint()
        checkpoint = load_checkpoint(folder) if folder else None
        if checkpoint and checkpoint.state["step"] >= config.train.max_steps > 0 and run.result_file.exists():
            raise ConfigError(
                f"{run.folder} is complete: all {config.train.max_steps} steps are done; sample from it instead"
            )
        if checkpoint:
            require_same_run(config, checkpoint, run)
        parent, tokenizer = reopen_parent(config, run, checkpoint)
        data = reopen_data(config, observers, checkpoint, tokenizer)
        for rejected, reason in damaged.items():
            tell(observers, f"{rejected.name} is damaged: {reason}; kept as {run.put_aside(rejected).name}")
        if checkpoint is None:
            tell(observers, "no whole checkpoint is there to go on from: the run begins again at its first step")
        config, model, loss = settle_machine(fit_to_data(config, data), data, observers, parent)
        parent = None  # its weights are in the model now
        trainer = build_trainer(run, config, model, loss, data, observers, sample, started)
        if checkpoint:
            trainer.restore(checkpoint)
        else:
            trainer.metrics_file.cut(0)
        return finish(trainer, started)


def require_same_run(config: RunConfig, checkpoint: Checkpoint, run: Run) -> None:
    """What makes the weights and the order of the text what they are cannot change on the way; the rest may, and the text
    may have moved (`reopen_data`)."""
    before, now = checkpoint.state["settings"], config.flat()
    fixed = [name for name, section in SECTION_OF.items() if section in ("model", "finetune")]
    for name in (*fixed, "tokenizer", "text_field", "seed", "batch_size"):
        was = before.get(name, now[name])  # an older version may not have known the setting
        if was != now[name]:
            raise ConfigError(
                f"{run.config_file} says {name} = {now[name]!r}, but the run was begun with {was!r}; change it back, or start "
                "a new run"
            )


def build_trainer(
    run: Run,
    config: RunConfig,
    model: LanguageModel,
    loss: Loss,
    data: DataFolder,
    observers: Sequence[Observer],
    sample: Sampler | None,
    started: float,
) -> Trainer:
    tokenizer = data.tokenizer()
    return Trainer(
        run=run,
        config=config,
        model=model,
        data=data,
        device=torch.device(config.machine.device),
        observers=observers,
        sample=(lambda model: sample(model, tokenizer)) if sample else None,
        loss=loss,
        deadline=started + 60 * config.train.minutes if config.train.minutes else math.inf,
    )


def save_parent(run: Run, parent: Parent, data: DataFolder) -> None:
    save_checkpoint(
        run.folder / PARENT,
        config=parent.config,
        weights=parent.weights,
        tokenizer_json=data.tokenizer().to_json(),
        state={"step": 0, "imported_from": parent.source},
    )


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


def open_data(config: RunConfig, observers: Sequence[Observer], tokenizer: Tokenizer | None = None) -> DataFolder:
    """The prepared text: a prepared folder as it is, anything else through the cache. `tokenizer` is the one of the model
    that the run goes on from."""
    sources = config.data.data
    if len(sources) == 1 and is_prepared(sources[0]):
        data = load_data(sources[0])
        if tokenizer is not None:
            require_same_tokenizer(data, tokenizer, config.finetune.from_)
        return data

    def progress(stage: str, share: float) -> None:
        for observer in observers:
            observer.on_prepare(stage, share)

    chosen = tokenizer or named_tokenizer(config.data.tokenizer)
    vocab_size = (config.model.vocab_size or None) if chosen == "bpe" else None
    return prepare_cached(sources, chosen, vocab_size, config.data.text_field, progress)


def reopen_data(
    config: RunConfig, observers: Sequence[Observer], checkpoint: Checkpoint | None, tokenizer: Tokenizer | None
) -> DataFolder:
    """The text of a run that goes on: from the cache without reading it again, else prepared anew and compared."""
    if checkpoint is None:
        return open_data(config, observers, tokenizer)
    cached = cache_folder() / "data" / checkpoint.state["data_fingerprint"]
    if cached.is_dir() and list(config.data.data) == checkpoint.state["settings"]["data"]:
        data = load_data(cached)
    elif "-" in config.data.data and sys.stdin.isatty():
        raise DataError("this run's text came from standard input and is no longer in the cache; pipe it in once more")
    else:
        data = open_data(config, observers, tokenizer)
    if data.meta.content_hash != checkpoint.state["data_content"]:
        raise DataError(
            f"the text or tokenizer of {', '.join(config.data.data)} has changed since this run began; "
            "bring the old text back, or start a new run"
        )
    return data


def finish(trainer: Trainer, started: float) -> Run:
    """Run the loop, then write result.json and loss.png."""
    earlier = trainer.seconds  # of the sittings before this one
    trainer.fit()
    late = time.monotonic() - trainer.deadline
    if late > 0.05 * (trainer.deadline - started):
        tell(trainer.observers, f"{late:.0f} s late: this machine became slower after its speed was measured")
    run, config = trainer.run, trainer.config
    metrics = run.metrics()
    last = [line for line in metrics if "val_loss" in line][-1]
    best = run.best()
    tokens = trainer.tokens_at(trainer.step)
    result: dict[str, Any] = {
        "val_loss": last["val_loss"],
        "bits_per_byte": last["bits_per_byte"],
        "best_val_loss": best["val_loss"] if best else last["val_loss"],
        "best_step": best["step"] if best else trainer.step,
        "baseline_bits_per_byte": trainer.data.meta.baseline_bits_per_byte,
        "steps": trainer.step,
        "tokens": tokens,
        "seconds": round(earlier + time.monotonic() - started, 2),
        "training_seconds": round(trainer.seconds, 2),
        "tokens_per_second": round(tokens / trainer.seconds, 1),
        "parameters": count_parameters(config.model).total,
        "data_fingerprint": trainer.data.meta.fingerprint,
        "environment": describe_environment(),
    }
    run.write_result(result)
    plot_losses(metrics, run.folder / "loss.png", trainer.data.meta.baseline_bits_per_byte, run.folder.name)
    return run
