"""How long a training step takes on this machine, from half a second of measuring. A model whose micro batch is computed at
once is built and trained for a few steps; a larger one is measured in parts (plan/parts.py)."""

import numpy as np
import torch

from glassgpt.config import RunConfig
from glassgpt.data import Batch, Batches
from glassgpt.machine import decide_precision, threads_restored
from glassgpt.model import build_model
from glassgpt.model.classifier import Classifier
from glassgpt.model.size import training_flops
from glassgpt.plan.parts import speed_of_parts
from glassgpt.plan.pieces import prepared, seconds_of_step
from glassgpt.plan.timing import Decided, Speed, seconds_of, timed
from glassgpt.train.loss import chunked_loss
from glassgpt.train.memory import outputs
from glassgpt.train.optimizer import build_optimizer
from glassgpt.train.replicas import Replicas
from glassgpt.train.settle import MOST_REPLICAS, require_shares, settle_replicas
from glassgpt.train.step import update
from glassgpt.train.trial import Trial

WHOLE = 40e9  # operations of a micro batch up to which the whole model is measured


def measure_speed(config: RunConfig, micro_batch_size: int, device: torch.device) -> Speed:
    """Of a step of `config`, whose vocabulary is known, in micro batches of that size. torch.compile is left out. Raises
    ConfigError for replicas that training would refuse."""
    require_shares(config, micro_batch_size)
    tokens = micro_batch_size * config.model.context_length
    is_small = training_flops(config.model) * tokens <= WHOLE and not config.train.gradient_checkpointing
    return (speed_of_whole if is_small else speed_of_parts)(config, micro_batch_size, device)


@threads_restored()
def speed_of_whole(config: RunConfig, micro_batch_size: int, device: torch.device) -> Speed:
    """Precision and replicas are decided as in training, on the same piece, which then tells how long a step takes; where the
    replicas are given, an update of what is at work at once is done."""
    c, train = config.model, config.train
    model = prepared(build_model(c, device=device), config)
    if config.data.task == "labels":
        model = Classifier(model, tuple(map(str, range(outputs(config)))))
    most = micro_batch_size * max(MOST_REPLICAS, config.machine.replicas)
    text = np.arange(2 * most * c.context_length + 2) % min(outputs(config), c.vocab_size)
    batches = Batches(text.astype(np.uint32), c.context_length, train.seed)
    trial, threads = Trial(config, model, batches, device, micro_batch_size), torch.get_num_threads()
    decided = Decided(trial.run_seconds)
    precision = decide_precision(
        config.machine.precision,
        device,
        lambda choice: trial.work(choice, chunked_loss),
        decided.run_seconds,
        decided.ratio_of("bfloat16"),
    ).choice
    if not config.machine.replicas and decided.seconds is None:
        piece = trial.work(precision, chunked_loss)
        piece()  # the first one also pays for memory and kernels
        decided.seconds = timed(piece)
    to_compare = decided.ratio_of("replicas")
    count = int(settle_replicas(config, trial, threads, precision, decided.seconds or 0.0, to_compare).choice)
    if count > 1:
        torch.set_num_threads(1)  # for the optimizer too, as in training
    if not config.machine.replicas and decided.seconds is not None:
        in_optimizer = seconds_of_step(model, build_optimizer(model, train, precision))
        return speed_of(decided.seconds * train.batch_size / trial.rows, in_optimizer, precision, count, decided.gains)
    each = micro_batch_size if train.micro_batch_size else micro_batch_size // count  # they share what was not said
    at_once, optimizer = each * count, build_optimizer(model, train, precision)
    read = batches.batch(0, at_once)
    batch = Batch(read.tokens.to(device), read.targets.to(device))
    settled, replicas = config.resolved(micro_batch_size=each, batch_size=at_once).train, Replicas(model, count)
    step = seconds_of(
        lambda: update(
            model, optimizer, batch,
            step=0, learning_rate=1e-9, config=settled, precision=precision, loss=chunked_loss, replicas=replicas,
        ),
        enough=0.1,
    )  # fmt: skip
    in_optimizer = seconds_of_step(model, optimizer)
    in_passes = train.batch_size / at_once * max(0.0, step - in_optimizer)
    return speed_of(in_passes, in_optimizer, precision, count, decided.gains)


def speed_of(in_passes: float, in_optimizer: float, precision: str, replicas: int, gains: dict[str, float]) -> Speed:
    parts = {"forward and backward": in_passes, "optimizer": in_optimizer}
    return Speed(step=sum(parts.values()), precision=precision, replicas=replicas, parts=parts, gains=gains)
