"""A configuration fitted to its text and its time: the vocabulary is the tokenizer's, and how large a model the minutes are
worth is found in a table measured on one machine, with a look at the speed of this one."""

import time
from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import torch

from glassgpt.config import GPTConfig, MachineConfig, RunConfig, build_config
from glassgpt.config.presets import OF_THE_OPTIMIZER, PRESETS, SIZES, SIZES_STEP, SIZES_THREADS, Size
from glassgpt.data import Batch, DataFolder, is_prepared
from glassgpt.errors import ConfigError
from glassgpt.finetune import Task
from glassgpt.machine import decide_device
from glassgpt.model import build_model
from glassgpt.train.loss import chunked_loss
from glassgpt.train.observers import Observer, tell

# What a size is a choice of; how many words there are is another matter.
OF_THE_MODEL = {*(field.name for field in fields(GPTConfig)), "batch_size"} - {"vocab_size"}
LONGEST_SHORT_TEXT = 2_000_000  # tokens; how often a longer one can be read has not been tried
# However short the text: it is over in seconds, the best checkpoint is kept, and a text that repeats itself gains by it.
FEWEST_STEPS = 80
VOCABULARY = 65  # of the text that the sizes were measured on
MOST_THREADS = 4  # more have not been tried
TRIES = 5


def fit_to_data(config: RunConfig, data: DataFolder) -> RunConfig:
    """Context checked against the text, and the vocabulary filled in: the tokenizer's, or a larger one that was asked for,
    such as 50304 for gpt2's 50257. Where the tokenizer was made for this run, its size is what came of the request; where
    the run goes on from a model, tokenizer and vocabulary are that model's."""
    config = config.resolved(task=fitting_task(config, data))
    data.require_windows(config.model.context_length)
    if config.finetune.from_:
        return config if "tokenizer" in config.asked else config.resolved(tokenizer=data.meta.tokenizer_kind)
    kind, size = data.meta.tokenizer_kind, data.meta.vocab_size
    prepared = is_prepared(config.data.data[0])
    if prepared and "tokenizer" in config.asked and config.data.tokenizer != kind:
        raise ConfigError(
            f"{data.path} was prepared with tokenizer {kind}, not {config.data.tokenizer}; leave tokenizer out, "
            "or prepare the text again"
        )
    made_here = config.data.tokenizer == "bpe" and not prepared
    asked = config.model.vocab_size if "vocab_size" in config.asked and not made_here else 0
    if 0 < asked < size:
        raise ConfigError(
            f"vocab_size {asked} is smaller than the {kind} tokenizer's {size}; leave it out, or make it at least {size}"
        )
    if prepared:
        config = config.resolved(tokenizer=kind)
    return config.resolved(vocab_size=asked or size)


def fitting_task(config: RunConfig, data: DataFolder) -> Task:
    """What the data is for. Raises ConfigError where something else was asked for."""
    if config.data.task not in ("auto", data.meta.task):
        raise ConfigError(
            f"{data.path} was prepared for task {data.meta.task}, not {config.data.task}; leave task out, or prepare it again"
        )
    return data.meta.task


class Sized(NamedTuple):
    """`config` with the `size` that its minutes are worth; `speed`: of this machine, beside the one on which sizes were
    measured. Where no table of sizes applies, the configuration as it was, and no size."""

    config: RunConfig
    size: Size | None = None
    speed: float = 1.0


def fit_to_time(config: RunConfig, data: DataFolder, observers: Sequence[Observer]) -> RunConfig:
    """Of a preset with a table of sizes, the one for its `minutes` and for the length of the text; and only as many steps as
    teach more than the text by heart. A run that learns conversations or labels has the size that it comes with."""
    if data.meta.task != "text":
        return config
    fitted, size, speed = sized(config, len(data.train))
    if size is None:
        return config
    model, train, minutes = fitted.model, fitted.train, config.train.minutes
    data.require_windows(model.context_length)  # before anything is said of its length
    n_gram = f", n_gram {model.n_gram}" if model.architecture == "ngram" else ""
    if "minutes" in config.asked:
        tell(
            observers,
            f"{minutes:g} minutes at {speed:.2f} x the speed of the machine on which sizes were measured: {model.n_layer} "
            f"{'layers' if model.n_layer > 1 else 'layer'} x {model.n_embd}{n_gram}, {train.batch_size} windows of "
            f"{model.context_length}",
        )
    return fit_to_length(fitted, size, 60 * minutes * speed * size.tokens_per_second, len(data.train), observers)


def sized(config: RunConfig, length: int) -> Sized:
    """For a text of `length` tokens."""
    sizes = sizes_of(config)
    if not sizes:
        return Sized(config)
    speed = SIZES_STEP / probe_seconds() * min(torch.get_num_threads(), MOST_THREADS) / SIZES_THREADS
    size = fitting_size(sizes, config.train.minutes * speed, length)
    if (size.settings.get("batch_size") or config.train.batch_size) % (config.train.micro_batch_size or 1):
        return Sized(config)  # it was asked for
    kept = {*config.asked}
    if config.train.optimizer != PRESETS[config.preset]["optimizer"]:
        kept.update(OF_THE_OPTIMIZER)
    fitted = config.resolved(**{name: value for name, value in size.settings.items() if name not in kept})
    return Sized(fitted, size, speed)


def sizes_of(config: RunConfig) -> tuple[Size, ...]:
    """Those among which its minutes choose; of a single one they only say how long it is trained, and how short a text may be.
    None, where another model or another batch is asked for, which it then has, and of a run that says its length in steps,
    learns from something else than plain text, goes on from a model, was settled before (in a config.toml) or is not on a
    CPU."""
    sizes = SIZES.get(config.preset, ())
    if (
        not (sizes and config.train.minutes)
        or OF_THE_MODEL & {*config.asked}
        or config.data.task not in ("auto", "text")
    ):
        return ()
    if config.finetune.from_ or is_settled(config) or decide_device(config.machine.device).choice != "cpu":
        return ()
    return sizes


def is_settled(config: RunConfig) -> bool:
    """Whether a run has settled what its machine does: this is one that is done again."""
    return any(
        getattr(config.machine, name) != getattr(MachineConfig(), name) and name not in config.asked
        for name in ("precision", "compile", "threads", "replicas")
    )


def fit_to_length(
    config: RunConfig, size: Size, tokens_in_time: float, length: int, observers: Sequence[Observer]
) -> RunConfig:
    """As many steps as read a text of `length` tokens often enough, where the time would be for more."""
    minutes, tokens_a_step = config.train.minutes, config.train.batch_size * config.model.context_length
    most = max(FEWEST_STEPS, int(size.most_passes * length / tokens_a_step))
    if tokens_in_time <= most * tokens_a_step or length > LONGEST_SHORT_TEXT:
        return config
    tell(
        observers,
        f"the text is short for {minutes:g} minutes: {most:,} steps read it {most * tokens_a_step / length:.2g} times, "
        "after which most are known by heart; for more say --max-steps instead of --minutes",
    )
    warmup = config.train.warmup_steps if "warmup_steps" in config.asked else most // 20
    return config.resolved(minutes=0.0, max_steps=most, warmup_steps=warmup)


def fitting_size(sizes: Sequence[Size], minutes: float, length: int) -> Size:
    """The largest that has the time, and would not know the text by heart before its time begins."""
    return [
        size
        for size in sizes
        if size.minutes <= minutes and 60 * size.minutes * size.tokens_per_second <= size.most_passes * length
    ][-1]


def probe_seconds() -> float:
    """A step of the smallest size of `char-cpu` without its optimizer, on one thread; the best of a few."""
    config = build_config(preset="char-cpu").resolved(vocab_size=VOCABULARY)
    model = build_model(config.model, seed=1)
    tokens = torch.arange(config.train.batch_size * config.model.context_length) % VOCABULARY
    batch = Batch(*[tokens.view(config.train.batch_size, -1)] * 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(TRIES):
            before = time.perf_counter()
            chunked_loss(model, batch).backward()  # type: ignore[no-untyped-call]
            seconds.append(time.perf_counter() - before)
    finally:
        torch.set_num_threads(threads)
    return min(seconds)
