"""From a configuration to a finished run, every step of it."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from glassgpt.checkpoint import PARENT, Run, check_new_run, create_run, save_checkpoint
from glassgpt.config import RunConfig
from glassgpt.data import DataFolder, DataMeta, Examples, is_prepared, load_data, prepare_cached, summarize, text_name
from glassgpt.data.meta import SPLITS
from glassgpt.disk import DiskError
from glassgpt.errors import DataError
from glassgpt.finetune import Template
from glassgpt.formats.huggingface import COMPANIONS
from glassgpt.machine import decide_device, decide_threads, describe_environment, peak_flops, threads_restored
from glassgpt.model import LanguageModel
from glassgpt.model.size import training_flops
from glassgpt.signals import unwinding
from glassgpt.tokenizer import Tokenizer, named_tokenizer
from glassgpt.train.fit import fit_to_data, fit_to_time
from glassgpt.train.observers import Observer, tell, tell_each
from glassgpt.train.parent import Parent, fit_to_parent, open_parent, require_same_tokenizer, tokenizer_for
from glassgpt.train.settle import require_replicas, settle_machine
from glassgpt.train.step import Loss
from glassgpt.train.trainer import Trainer, in_one_line

Sampler = Callable[[LanguageModel, DataFolder], str]
"""Writes a text with the model as it is: how training shows what it has learned of this data, brought by the caller."""


@threads_restored()
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
    config = replace(config, minutes_given=config.train.minutes or config.minutes_given)
    check_new_run(out)  # what can be known to fail is said before the text is read
    device = torch.device(decide_device(config.machine.device).choice)
    require_replicas(config, device, decide_threads(config.machine.threads))
    parent = tokenizer = template = None
    if config.finetune.from_:
        parent = open_parent(config.finetune.from_, config)
        config, parent = fit_to_parent(config, parent)
        tokenizer, template = tokenizer_for(config, parent), parent.template
    data = open_data(config, observers, tokenizer, template)
    for line in summarize(data).facts():
        tell(observers, line)
    config = fit_to_data(fit_to_time(config, data, observers), data)
    if 0 < config.train.max_steps < config.train.warmup_steps:
        tell(
            observers,
            f"the warmup of {config.train.warmup_steps} steps is longer than the run of {config.train.max_steps}: "
            "the learning rate never reaches its height",
        )
    for line in cut_examples(config, data):
        tell(observers, line)
    config, model, loss = settle_machine(config, data, observers, parent)
    run = create_run(out, text_name(config.data.data))
    with run.locked(lambda line: tell(observers, line)):
        run.write_config(config)
        if parent is not None and config.finetune.lora:  # so that the run is complete in itself
            with unwinding():
                save_parent(run, parent, data)
        carried = carried_by(parent.carried) if parent else {}
        parent = None  # its weights are in the model now
        trainer = build_trainer(run, config, model, loss, data, observers, sample, started, carried, template)
        return finish(trainer)


def build_trainer(
    run: Run,
    config: RunConfig,
    model: LanguageModel,
    loss: Loss,
    data: DataFolder,
    observers: Sequence[Observer],
    sample: Sampler | None,
    started: float,
    carried: Mapping[str, Any],
    template: Template | None,
) -> Trainer:
    return Trainer(
        run=run,
        config=config,
        model=model,
        data=data,
        device=torch.device(config.machine.device),
        observers=observers,
        sample=(lambda model: sample(model, data)) if sample else None,
        loss=loss,
        started=started,
        deadline=started + 60 * config.train.minutes if config.train.minutes else math.inf,
        carried=carried,
        template=template,
        at_last=lambda: Thread(target=load_plot, daemon=True).start(),
    )


def load_plot() -> None:
    """Loading matplotlib takes half a second of one core, which the last validation need not wait for."""
    with suppress(Exception):  # it is loaded again, and said so, where it is drawn
        import glassgpt.train.plot  # noqa: F401


def carried_by(companions: Mapping[str, Any] | None) -> dict[str, Any]:
    """As the state of a checkpoint holds it."""
    return {COMPANIONS: dict(companions)} if companions else {}


def save_parent(run: Run, parent: Parent, data: DataFolder) -> None:
    save_checkpoint(
        run.folder / PARENT,
        config=parent.config,
        weights=parent.weights,
        tokenizer_json=data.tokenizer().to_json(),
        template=parent.template,
        state={"step": 0, "imported_from": parent.source, **carried_by(parent.carried)},
    )


def open_data(
    config: RunConfig,
    observers: Sequence[Observer],
    tokenizer: Tokenizer | None = None,
    template: Template | None = None,
) -> DataFolder:
    """The prepared text: a prepared folder as it is, anything else through the cache. `tokenizer` and `template` are those of
    the model that the run goes on from."""
    sources = config.data.data
    if len(sources) == 1 and is_prepared(sources[0]):
        data = load_data(sources[0])
        if tokenizer is not None:
            require_same_tokenizer(data, tokenizer, config.finetune.from_)
        if template is not None and data.template() not in (None, template):
            raise DataError(
                f"the conversations in {data.path} are not written as {config.finetune.from_} knows them; name the text itself"
            )
        return data

    def progress(stage: str, share: float) -> None:
        tell_each(observers, "on_prepare", stage, share)

    chosen = tokenizer or named_tokenizer(config.data.tokenizer)
    vocab_size = (config.model.vocab_size or None) if chosen == "bpe" else None
    return prepare_cached(sources, chosen, vocab_size, config.data.text_field, progress, config.data.task, template)


def cut_examples(config: RunConfig, data: DataFolder) -> Iterator[str]:
    """In words, which examples are longer than the context. Raises DataError where none is left to learn from."""
    if data.meta.task == "text":
        return
    context_length = config.model.context_length
    both = [Examples(data, split, context_length, config.train.seed) for split in SPLITS]
    if cut := sum(examples.cut for examples in both):
        what = f"{data.meta.documents:,} {'conversations' if data.meta.task == 'conversations' else 'texts'}"
        gone = sum(examples.left_out for examples in both)
        without = f"; left out, since no answer begins before that: {gone:,}" if gone else ""
        yield f"longer than context_length {context_length}, and cut there: {cut:,} of {what}{without}"


def finish(trainer: Trainer) -> Run:
    """Run the loop, then write loss.png and result.json."""
    in_loop = trainer.seconds  # of the sittings before this one
    trainer.fit()
    late = time.monotonic() - trainer.pace.deadline
    time_given = trainer.earlier + trainer.pace.deadline - trainer.started  # of all sittings together; inf: none was
    if late > 0.05 * time_given:
        why = "this machine became slower after its speed was measured"
        begun = trainer.began + in_loop - trainer.started
        if trainer.earlier and begun > 0.5 * late:
            why = f"it was stopped, and took {begun:.0f} s to go on"
        elif begun > 0.3 * time_given:
            why = f"it took {begun:.0f} s until the first step"
        trainer.tell("on_message", f"{late:.0f} s late: {why}")
    run = trainer.run
    metrics = run.metrics()
    last = [line for line in metrics if "val_loss" in line][-1]
    best = run.best()
    meta = trainer.data.meta
    picture = run.folder / "loss.png"
    try:
        from glassgpt.train.plot import plot_losses

        plot_losses(metrics, picture, meta.baseline_bits_per_byte, run.folder.name)
    except Exception as error:  # a matplotlib that is broken, too
        why = f"{picture} could not be drawn ({in_one_line(error)})"
        if isinstance(error, OSError):
            why = DiskError(picture, error).short
        trainer.tell("on_message", f"{why}; the run is complete without it")
    result: dict[str, Any] = {
        "task": meta.task,
        "val_loss": last["val_loss"],
        **{name: last[name] for name in ("bits_per_byte", "accuracy") if name in last},
        "best_val_loss": best["val_loss"] if best else last["val_loss"],
        "best_step": best["step"] if best else trainer.step,
        **baseline_of(meta),
        "steps": trainer.step,
        "tokens": trainer.tokens,
        "seconds": round(trainer.earlier + time.monotonic() - trainer.started, 2),
        "training_seconds": round(trainer.seconds, 2),
        "checkpoint_seconds": round(trainer.saver.waited, 2),  # of this sitting, in which training stood still for them
        "tokens_per_second": round(trainer.tokens / trainer.seconds, 1),
        **arithmetic(trainer),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "data_fingerprint": meta.fingerprint,
        "environment": describe_environment(),
    }
    run.write_result(result)  # last: it says that the run is complete
    return run


def arithmetic(trainer: Trainer) -> dict[str, Any]:
    """Operations a second of the last steps, and what share that is of what the device can do (MFU); None where its peak is
    not known, or where only a part of the model learned or was asked."""
    config, pace = trainer.config, trainer.pace
    if config.finetune.lora or trainer.data.meta.labels or not pace.steps:
        return {"flops_per_second": None, "mfu": None}
    flops = training_flops(config.model) * trainer.tokens / trainer.step / pace.step_seconds
    peak = peak_flops(trainer.device, config.machine.precision)
    return {"flops_per_second": round(flops), "mfu": round(flops / peak, 4) if peak else None}


def baseline_of(meta: DataMeta) -> dict[str, Any]:
    """What can be reached without learning, as result.json says it."""
    if meta.baseline_accuracy is not None:
        return {"baseline_accuracy": meta.baseline_accuracy}
    return {"baseline_bits_per_byte": meta.baseline_bits_per_byte}
