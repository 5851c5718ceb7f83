"""What a configuration leaves open, settled once for this machine, and written to the run's config.toml."""

import math
from collections.abc import Sequence
from functools import cache

import torch

from glassgpt.checkpoint import load_weights
from glassgpt.config import RunConfig, TrainConfig
from glassgpt.config.schema import SHORTEST_TIMED_WARMUP
from glassgpt.data import DataFolder, training_batches
from glassgpt.errors import ConfigError, MachineError, is_out_of_memory
from glassgpt.machine import (
    Decision,
    decide_compile,
    decide_device,
    decide_precision,
    decide_replicas,
    decide_threads,
    free_memory,
    give_back_freed_memory,
    total_memory,
)
from glassgpt.machine.decide import Ratio
from glassgpt.model import LanguageModel, build_model
from glassgpt.model.classifier import Classifier
from glassgpt.model.lora import attach_lora, lora_of
from glassgpt.model.size import count_parameters
from glassgpt.train.guards import smaller_micro_batch
from glassgpt.train.loss import chunked_loss, plain_loss
from glassgpt.train.memory import training_memory
from glassgpt.train.observers import Observer, tell
from glassgpt.train.parent import Parent
from glassgpt.train.recompute import recompute_blocks
from glassgpt.train.step import Loss
from glassgpt.train.trial import Trial, seconds_of

# A larger piece does not run faster on a CPU, it only needs more memory.
MICRO_BATCH_TOKENS_ON_CPU = 16_384
BATCH_BYTES = 32  # a token of a batch: read, as an index, and as token and target of 8 bytes
# More replicas wait for Python's one lock; where a piece takes long, torch's own threads have enough to do; and a run has to
# last to earn the trial back.
MOST_REPLICAS, LONGEST_PIECE, SHORTEST_RUN = 4, 0.25, 1.0
MEMORY_SHARE = 1 / 8  # of what is free, for the gradients of all replicas but the first
# Under `minutes` the speed is measured while the learning rate rises (train/pace.py): a little longer than that takes.
WARMUP_SHARE, LONGEST_TIMED_WARMUP = 0.04, 2000


def settle_machine(
    config: RunConfig, data: DataFolder, observers: Sequence[Observer], parent: Parent | None = None
) -> tuple[RunConfig, LanguageModel, Loss]:
    """Build the model, with the weights of the one that it goes on from, and decide, once, where and how it is computed.
    What was decided before is taken as it is."""
    device = torch.device(decide_device(config.machine.device).choice)
    threads = decide_threads(config.machine.threads)
    require_memory(config, device)
    train = config.train
    micro_batch_size = train.micro_batch_size or fitting_micro_batch(config, device)
    model = build_model(config.model, seed=train.seed if parent is None else None, device=device)
    if parent is not None:
        load_weights(model, parent.weights, parent.source)
    if (lora := lora_of(config.finetune)) is not None:
        attach_lora(model, lora, train.seed)
    if data.meta.labels:
        model = Classifier(model, data.meta.labels)
        model.init_score(train.seed)
    if train.gradient_checkpointing:
        recompute_blocks(model)
    trial = Trial(
        config, model, training_batches(data, config.model.context_length, train.seed), device, micro_batch_size
    )
    while True:
        try:
            precision = decide_precision(
                config.machine.precision, device, lambda choice: trial.work(choice, chunked_loss), trial.run_seconds
            )
            trial_seconds = seconds_of(trial.work(precision.choice, chunked_loss))
            break
        except (MemoryError, RuntimeError) as error:
            smaller = smaller_micro_batch(trial.micro_batch_size, train.batch_size)
            if not (smaller and is_out_of_memory(error)):
                raise
        tell(observers, f"out of memory at micro_batch_size {trial.micro_batch_size}; going on with {smaller}")
        trial.micro_batch_size = smaller

    @cache
    def compiled() -> Loss:  # once, and not unless it is wanted: loading the compiler alone takes a second
        return torch.compile(plain_loss)

    replicas = settle_replicas(config, trial, threads, precision.choice, trial_seconds)
    count, wanted = int(replicas.choice), config.machine.compile
    if config.machine.replicas > 1 and wanted == "auto":
        wanted = "off"  # replicas were asked for, and cannot have it
    compilation = decide_compile(
        wanted,
        device,
        trial.run_seconds(trial_seconds),
        lambda on: (
            trial.work(precision.choice, compiled()) if on else trial.work(precision.choice, chunked_loss, count)
        ),
    )
    give_back_freed_memory()  # the trials' pieces are of other sizes
    if compilation.choice == "on":
        count = 1
    if count > 1:
        torch.set_num_threads(1)  # a thread each
    if not train.micro_batch_size:
        trial.micro_batch_size //= count  # the replicas share what fits
    parameters = sum(p.numel() for p in model.parameters())
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    adapted = f", {learning:,} of them in adapters that learn" if config.finetune.lora else ""
    layers = f"{config.model.n_layer} layer{'s' if config.model.n_layer > 1 else ''}"
    shape = f"{config.model.architecture}, {layers} x {config.model.n_embd}"
    tell(
        observers,
        f"preset {config.preset} ({shape}): {parameters:,} parameters{adapted} on {device}, "
        f"{threads} thread{'s' if threads > 1 else ''}{f', {count} replicas' if count > 1 else ''}",
    )
    if "auto" in (config.machine.precision, config.machine.compile):  # a run that goes on decides nothing
        tell(observers, f"{precision.choice}: {precision.reason}; compile {compilation.choice}: {compilation.reason}")
    if count > 1 and not config.machine.replicas:
        tell(observers, f"{count} replicas, a thread each: {replicas.reason}")
    loss = compiled() if compilation.choice == "on" else chunked_loss
    settled = config.resolved(
        device=str(device),
        threads=threads,
        precision=precision.choice,
        compile=compilation.choice,
        replicas=count,
        micro_batch_size=trial.micro_batch_size,
        warmup_steps=timed_warmup(train, trial.step_seconds(trial_seconds)) if train.minutes else train.warmup_steps,
    )
    return settled, model, loss


def settle_replicas(
    config: RunConfig,
    trial: Trial,
    threads: int,
    precision: str,
    piece_seconds: float,
    ratio: Ratio | None = None,
) -> Decision:
    """How many micro batches are computed at the same time, where a replica takes the same share of what one would.
    `ratio` compares (speed_ratio)."""
    wanted, size = config.machine.replicas, trial.micro_batch_size
    why_not = why_no_replicas(config, trial.device, threads)
    require_shares(config, size)
    if wanted > 1:
        if why_not:
            raise ConfigError(refused_replicas(wanted, why_not))
        return Decision(str(wanted), "asked for")
    parts = shares(config, size)
    count = next((n for n in range(min(threads, MOST_REPLICAS), 1, -1) if parts % n == 0), 1)
    gradients = 4 * (count - 1) * sum(p.numel() for p in trial.model.parameters() if p.requires_grad)
    if wanted or why_not or count == 1:
        return Decision("1", why_not or "one takes all threads")
    if piece_seconds > LONGEST_PIECE or trial.run_seconds(piece_seconds) < SHORTEST_RUN:
        return Decision("1", "not tried")
    if gradients > free_memory(trial.device) * MEMORY_SHARE:
        return Decision("1", "their gradients would take too much memory")
    try:
        return decide_replicas(count, lambda n: trial.work(precision, chunked_loss, n), trial.run_seconds, ratio)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return Decision("1", "there is not enough memory for more")


def shares(config: RunConfig, micro_batch_size: int) -> int:
    """How many replicas could take one. What was given is what a replica takes, and not a share of it."""
    return config.train.batch_size // micro_batch_size if config.train.micro_batch_size else micro_batch_size


def require_shares(config: RunConfig, micro_batch_size: int) -> None:
    """Raises ConfigError where so many replicas as were asked for would not have the same to do."""
    wanted, parts, why_not = config.machine.replicas, shares(config, micro_batch_size), ""
    if config.train.micro_batch_size and parts < wanted:
        why_not = f"each takes a micro batch, and of micro_batch_size {micro_batch_size} a step has {parts}"
    elif not config.train.micro_batch_size and wanted and parts % wanted:
        why_not = f"it has to divide micro_batch_size {micro_batch_size}"
    if why_not:
        raise ConfigError(refused_replicas(wanted, why_not))


def require_replicas(config: RunConfig, device: torch.device, threads: int) -> None:
    """Raises ConfigError where replicas were asked for, and cannot be had, whatever the text is."""
    wanted = config.machine.replicas
    if wanted > 1 and (why_not := why_no_replicas(config, device, threads)):
        raise ConfigError(refused_replicas(wanted, why_not))


def refused_replicas(wanted: int, why_not: str) -> str:
    return f"replicas is {wanted}; {why_not}; lower it, or 0 has a trial decide"


def why_no_replicas(config: RunConfig, device: torch.device, threads: int) -> str | None:
    if config.machine.replicas > threads:
        return f"each takes a thread, and threads is {threads}"
    if device.type != "cpu":
        return f"only a CPU has threads to give, and this run is on {device}"
    if config.machine.compile == "on":
        return "a compiled model has one thread of Python; take compile off"
    if config.train.gradient_checkpointing:
        return "gradient_checkpointing computes one micro batch at a time"
    if config.model.dropout:
        return "dropout draws its masks in order, one micro batch after the other"
    return None


def timed_warmup(train: TrainConfig, step_seconds: float) -> int:
    """The warmup of a run whose time is given: what was asked for, else a share of the steps that should fit."""
    share = int(WARMUP_SHARE * 60 * train.minutes / step_seconds)
    return train.warmup_steps or min(max(share, SHORTEST_TIMED_WARMUP), LONGEST_TIMED_WARMUP)


def require_memory(config: RunConfig, device: torch.device) -> None:
    """Refuse what cannot be trained here before it takes the machine down."""
    require_batch(config)
    micro_batch_size = config.train.micro_batch_size or 1
    needed = training_memory(config, micro_batch_size, on_cpu=device.type != "cuda").tensors
    there = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else total_memory()
    if needed > there:
        raise MachineError(
            f"training {count_parameters(config.model).total:,} parameters needs about {needed / 1e9:,.0f} GB at "
            f"micro_batch_size {micro_batch_size}, {device} has {there / 1e9:,.0f} GB; "
            f"{'lower micro_batch_size' if micro_batch_size > 1 else 'take a smaller preset or fewer layers'}"
        )


def require_batch(config: RunConfig) -> None:
    """Refuse a batch that this machine cannot even hold as tokens."""
    batch = BATCH_BYTES * config.train.batch_size * config.model.context_length
    if batch > total_memory() / 2:
        raise MachineError(
            f"a batch of {config.train.batch_size:,} sequences of {config.model.context_length:,} tokens takes "
            f"{batch / 1e9:,.0f} GB, this machine has {total_memory() / 1e9:,.0f} GB; lower batch_size or context_length"
        )


def fitting_micro_batch(config: RunConfig, device: torch.device, room: float | None = None) -> int:
    """The largest divisor of batch_size whose step takes at most `room` bytes: half of what is free, if not said."""
    room = free_memory(device) / 2 if room is None else room
    whole_logits = config.machine.compile != "off"  # the safe side while it is open which loss will run
    batch, on_cpu = config.train.batch_size, device.type != "cuda"
    most = min(batch, max(1, MICRO_BATCH_TOKENS_ON_CPU // config.model.context_length)) if on_cpu else batch
    divisors = {d for n in range(1, math.isqrt(batch) + 1) if batch % n == 0 for d in (n, batch // n)}
    fitting = (
        size
        for size in sorted(divisors, reverse=True)
        if size <= most and training_memory(config, size, whole_logits=whole_logits, on_cpu=on_cpu).growth <= room
    )
    return next(fitting, 1)
