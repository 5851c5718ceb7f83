"""From a configuration to a finished run, every step of it: `train_run` begins one, `resume_run` goes on with one."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from glassgpt.checkpoint import Run, create_run, load_checkpoint
from glassgpt.config import RunConfig
from glassgpt.config.cache_folder import cache_folder
from glassgpt.data import Batch, Batches, DataFolder, is_prepared, load_data, prepare_cached, summarize, text_name
from glassgpt.errors import ConfigError, DataError, MachineError
from glassgpt.machine import (
    decide_compile,
    decide_device,
    decide_precision,
    decide_threads,
    describe_environment,
    free_memory,
    total_memory,
)
from glassgpt.model import LanguageModel, build_model
from glassgpt.model.size import count_parameters, training_bytes
from glassgpt.tokenizer import Tokenizer, named_tokenizer
from glassgpt.train.loss import chunked_loss, plain_loss
from glassgpt.train.observers import Observer, read_metrics
from glassgpt.train.plot import plot_losses
from glassgpt.train.step import Loss, autocast
from glassgpt.train.trainer import Trainer

Sampler = Callable[[LanguageModel, Tokenizer], str]
"""Writes a text with the model as it is: how training shows what it has learned, brought by the caller."""

# A larger piece does not run faster on a CPU, it only needs more memory.
MICRO_BATCH_TOKENS_ON_CPU = 16_384
TRIAL_TOKENS = 4096


def train_run(
    config: RunConfig,
    *,
    out: Path | None = None,
    observers: Sequence[Observer] = (),
    sample: Sampler | None = None,
    started: float | None = None,
) -> Run:
    """Train from the first step to the last. `started` (time.monotonic) is when the clock of `minutes` began: now, if not
    said. Raises a GlassError where the configuration, the text or the machine does not allow it, Stopped after a signal."""
    started = time.monotonic() if started is None else started
    if out is not None and out.exists():
        raise ConfigError(f"{out} is already there, and a run is never overwritten; choose another --out, or resume it")
    decide_device(config.machine.device)  # a wrong name is said before the text is read
    decide_threads(config.machine.threads)
    data = open_data(config, observers)
    for line in summarize(data).facts():
        tell(observers, line)
    config = fit_to_data(config, data)
    config, model, loss = settle_machine(config, data, observers)
    run = create_run(out, text_name(config.data.data))
    run.write_config(config)
    trainer = build_trainer(run, config, model, loss, data, observers, sample, started)
    return finish(trainer, started)


def resume_run(run: Run, *, observers: Sequence[Observer] = (), sample: Sampler | None = None) -> Run:
    """Go on from the run's last whole checkpoint, or from step 0 where there is none yet."""
    started = time.monotonic()
    config = run.config()
    folder, rejected = run.last_whole_checkpoint()
    for message in rejected:
        tell(observers, message)
    checkpoint = load_checkpoint(folder) if folder else None
    if checkpoint and checkpoint.state["step"] >= config.train.max_steps > 0 and run.result_file.exists():
        raise ConfigError(
            f"{run.folder} is complete: all {config.train.max_steps} steps are done; sample from it instead"
        )
    data = open_data(config, observers, checkpoint.state["data_fingerprint"] if checkpoint else None)
    if checkpoint and data.meta.content_hash != checkpoint.state["data_content"]:
        raise DataError(
            f"the text or tokenizer of {', '.join(config.data.data)} has changed since this run began; "
            "bring the old text back, or start a new run"
        )
    config, model, loss = settle_machine(fit_to_data(config, data), data, observers)
    trainer = build_trainer(run, config, model, loss, data, observers, sample, started)
    if checkpoint:
        trainer.restore(checkpoint)
    else:
        trainer.metrics_file.cut(0)
    return finish(trainer, started)


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


def open_data(config: RunConfig, observers: Sequence[Observer], fingerprint: str | None = None) -> DataFolder:
    """The prepared text: a prepared folder as it is, anything else through the cache, where a known `fingerprint` saves
    reading the text again."""
    sources = config.data.data
    if len(sources) == 1 and is_prepared(sources[0]):
        return load_data(sources[0])
    if fingerprint and (cached := cache_folder() / "data" / fingerprint).is_dir():
        return load_data(cached)

    def progress(stage: str, share: float) -> None:
        for observer in observers:
            observer.on_prepare(stage, share)

    tokenizer = named_tokenizer(config.data.tokenizer)
    vocab_size = (config.model.vocab_size or None) if tokenizer == "bpe" else None
    return prepare_cached(sources, tokenizer, vocab_size, config.data.text_field, progress)


def fit_to_data(config: RunConfig, data: DataFolder) -> RunConfig:
    """Context checked against the text, and the vocabulary filled in: the tokenizer's, or a larger one for a tokenizer
    whose size is given, such as 50304 for gpt2's 50257."""
    data.require_windows(config.model.context_length)
    kind, size = data.meta.tokenizer_kind, data.meta.vocab_size
    asked = config.model.vocab_size if config.data.tokenizer == kind != "bpe" else 0
    if 0 < asked < size:
        raise ConfigError(
            f"vocab_size {asked} is smaller than the {kind} tokenizer's {size}; leave it out, or make it at least {size}"
        )
    if is_prepared(config.data.data[0]):
        config = config.with_values(tokenizer=kind)
    return config.with_values(vocab_size=asked or size)


def settle_machine(
    config: RunConfig, data: DataFolder, observers: Sequence[Observer]
) -> tuple[RunConfig, LanguageModel, Loss]:
    """Build the model and decide, once, where and how it is computed. What was decided before is taken as it is."""
    device = torch.device(decide_device(config.machine.device).choice)
    threads = decide_threads(config.machine.threads)
    require_memory(config, device)
    train = config.train
    if not train.micro_batch_size:
        train = replace(train, micro_batch_size=fitting_micro_batch(config, device))
    model = build_model(config.model, seed=train.seed, device=device)
    rows = max(1, min(train.micro_batch_size, TRIAL_TOKENS // config.model.context_length))
    batch = Batches(data.train, config.model.context_length, train.seed).batch(0, rows)
    batch = Batch(batch.tokens.to(device), batch.targets.to(device))

    def work(precision: str, loss: Loss) -> Callable[[], object]:
        def forward_and_backward() -> float:
            with autocast(device, precision):
                value = loss(model, batch)
            value.backward()  # type: ignore[no-untyped-call]
            model.zero_grad(set_to_none=True)
            return value.item()

        return forward_and_backward

    precision = decide_precision(config.machine.precision, device, lambda choice: work(choice, chunked_loss))
    plain = work(precision.choice, chunked_loss)
    before = time.perf_counter()
    plain()
    step_seconds = (time.perf_counter() - before) * train.batch_size / rows

    @cache
    def compiled() -> Loss:  # once, and not unless it is wanted: loading the compiler alone takes a second
        return torch.compile(plain_loss)

    compilation = decide_compile(
        config.machine.compile,
        device,
        60 * train.minutes or train.max_steps * step_seconds,
        lambda on: work(precision.choice, compiled() if on else chunked_loss),
    )
    parameters = count_parameters(config.model).total
    tell(observers, f"{parameters:,} parameters on {device}, {threads} threads")
    tell(observers, f"{precision.choice}: {precision.reason}; compile {compilation.choice}: {compilation.reason}")
    loss = compiled() if compilation.choice == "on" else chunked_loss
    settled = config.with_values(
        device=str(device),
        threads=threads,
        precision=precision.choice,
        compile=compilation.choice,
        micro_batch_size=train.micro_batch_size,
    )
    return settled, model, loss


def require_memory(config: RunConfig, device: torch.device) -> None:
    """Refuse what cannot be trained here before it takes the machine down."""
    needed = training_bytes(config.model, micro_batch_size=1)
    there = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else total_memory()
    if needed > there:
        raise MachineError(
            f"training {count_parameters(config.model).total:,} parameters needs about {needed / 1e9:,.0f} GB, "
            f"{device} has {there / 1e9:,.0f} GB; take a smaller preset or fewer layers"
        )


def fitting_micro_batch(config: RunConfig, device: torch.device) -> int:
    """The largest divisor of batch_size that leaves half of the free memory free."""
    room = free_memory(device) / 2
    most = config.train.batch_size
    if device.type != "cuda":
        most = min(most, max(1, MICRO_BATCH_TOKENS_ON_CPU // config.model.context_length))
    return next(
        (
            size
            for size in range(most, 1, -1)
            if config.train.batch_size % size == 0 and training_bytes(config.model, micro_batch_size=size) <= room
        ),
        1,
    )


def finish(trainer: Trainer, started: float) -> Run:
    """Run the loop, then write result.json and loss.png."""
    earlier = trainer.seconds  # of the sittings before this one
    trainer.fit()
    run, config = trainer.run, trainer.config
    metrics = read_metrics(run.metrics_file)
    plot_losses(metrics, run.folder / "loss.png", trainer.data.meta.baseline_bits_per_byte)
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
    return run


def tell(observers: Sequence[Observer], message: str) -> None:
    for observer in observers:
        observer.on_message(message)
