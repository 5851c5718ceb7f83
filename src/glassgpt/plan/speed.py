"""How long a training step takes on this machine, from half a second of measuring.

A model whose micro batch is computed at once is built and trained for a few steps. Of a larger one a single block is, and a
slice of the loss, and the optimizer on that block: a step is so many of each. What every micro batch pays for the weights
alone (they are converted, their gradients added) is measured with next to no tokens.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig, RunConfig
from glassgpt.data import Batch, Batches
from glassgpt.machine import decide_precision
from glassgpt.model import LanguageModel, build_model
from glassgpt.model.size import count_parameters, training_flops
from glassgpt.train.loss import CHUNK_WORDS, chunk_rows, chunked_loss
from glassgpt.train.optimizer import Optimizer, adamw, build_optimizer
from glassgpt.train.settle import settle_replicas
from glassgpt.train.step import autocast
from glassgpt.train.trial import Trial

# Operations of a micro batch up to which the whole model is measured; of a piece that decides about precision and replicas.
WHOLE, DECIDING = 40e9, 13e9
FEW_TOKENS = 512  # that decide about them in a small model
PIECE_SECONDS, MEASURING_SECONDS = 0.1, 0.2  # of the piece of which one block is measured; of one measurement
HIDDEN = 2_000_000  # numbers in so many blocks as the optimizer is measured on
FEW = 16  # tokens that cost next to nothing beside the weights
SMALL_VOCABULARY = 64


@dataclass(frozen=True, kw_only=True)
class Speed:
    """`step`: seconds of one optimizer update; `parts`: what they go to, where that was measured one by one."""

    step: float
    precision: str
    replicas: int
    parts: dict[str, float]


def measure_speed(config: RunConfig, micro_batch_size: int, device: torch.device) -> Speed:
    """Of a step of `config`, whose vocabulary is known, in micro batches of that size. torch.compile is left out."""
    config = config.resolved(micro_batch_size=micro_batch_size)
    tokens = micro_batch_size * config.model.context_length
    if training_flops(config.model) * tokens <= WHOLE:
        return speed_of_whole(config, device)
    return speed_of_parts(config, device)


def speed_of_whole(config: RunConfig, device: torch.device) -> Speed:
    """Forward and backward of a micro batch, as training tries them before it begins, and the optimizer."""
    c, train = config.model, config.train
    model = build_model(c, seed=train.seed, device=device).train()
    text = np.arange(2 * train.batch_size * c.context_length + 2) % c.vocab_size
    batches = Batches(text.astype(np.uint32), c.context_length, train.seed)
    # What is decided is decided by a few sequences.
    few = Trial(config, model, batches, device, min(train.micro_batch_size, max(2, FEW_TOKENS // c.context_length)))
    precision = decide_precision(
        config.machine.precision, device, lambda choice: few.work(choice, chunked_loss), few.run_seconds, quick_ratio
    ).choice
    # As in training: replicas share one micro batch, where neither its size nor their number was said.
    count, threads = config.machine.replicas, torch.get_num_threads()
    whole = Trial(config, model, batches, device, train.micro_batch_size)
    if not count:
        piece = timed(whole.work(precision, chunked_loss))
        unsaid = config.resolved(micro_batch_size=0)
        count = int(settle_replicas(unsaid, few, threads, precision, piece, quick_ratio).choice)
    parts = {
        "forward and backward": whole.step_seconds(seconds_of(whole.work(precision, chunked_loss, count))),
        "optimizer": seconds_of_step(model, build_optimizer(model, train, precision)),
    }
    return Speed(step=sum(parts.values()), precision=precision, replicas=count, parts=parts)


def speed_of_parts(config: RunConfig, device: torch.device) -> Speed:
    """A block, a slice of the loss and the optimizer of a block, each times as often as a step has it."""
    c, train = config.model, config.train
    micro_steps = math.ceil(train.batch_size / train.micro_batch_size)
    positions = train.micro_batch_size * c.context_length
    one_block = thinned(c, 1)
    thin = filled(build_model(one_block, device=device)).train()
    flops = training_flops(one_block)

    deciding = min(c.context_length, max(FEW, int(DECIDING / flops)))
    precision = decide_precision(
        config.machine.precision,
        device,
        lambda choice: pass_through(thin, 1, deciding, choice),
        lambda piece: 60 * train.minutes or train.max_steps * micro_steps * c.n_layer * positions / deciding * piece,
        quick_ratio,
    ).choice

    # Whole windows, or where one takes too long a part of it; the operations then tell what the rest takes.
    few = min(FEW, c.context_length)
    with_weights = seconds_of(pass_through(thin, 1, few, precision))
    of_window = timed(pass_through(thin, 1, deciding, precision)) * c.context_length / deciding
    rows = min(train.micro_batch_size, int(PIECE_SECONDS / of_window))
    length = c.context_length if rows else max(2 * few, int(PIECE_SECONDS / of_window * c.context_length))
    rows = max(1, rows)
    with_tokens = seconds_of(pass_through(thin, rows, length, precision))
    del thin.blocks[:]
    around_weights = seconds_of(pass_through(thin, 1, few, precision))
    around = seconds_of(pass_through(thin, rows, length, precision))
    longer = flops / training_flops(replace(one_block, context_length=length))
    measured = rows * length

    def of_micro_batch(weights: float, whole: float) -> float:
        return weights + longer * max(0.0, whole - weights) / (measured - few) * (positions - few)

    block = of_micro_batch(with_weights - around_weights, with_tokens - around)
    edges = of_micro_batch(around_weights, around)
    in_loss, for_weight = loss_seconds(config, positions, device, precision)
    count = count_parameters(c)
    in_blocks = (count.attention + count.mlp) // c.n_layer
    layers = max(1, min(c.n_layer, HIDDEN // in_blocks))
    several = filled(build_model(thinned(c, layers), device=device))
    in_optimizer = seconds_of_step(several, build_optimizer(several, train, precision)) * c.n_layer / layers
    step = {
        "blocks": micro_steps * c.n_layer * block,
        "embedding and last norm": micro_steps * edges,
        "loss": micro_steps * in_loss,
        "optimizer": in_optimizer + for_weight * (count.total - c.n_layer * in_blocks),
    }
    return Speed(step=sum(step.values()), precision=precision, replicas=1, parts=step)


def thinned(c: GPTConfig, layers: int) -> GPTConfig:
    """So many blocks, and next to no vocabulary."""
    return replace(
        c,
        n_layer=layers,
        vocab_size=min(c.vocab_size, SMALL_VOCABULARY),
        n_gram_rows=min(c.n_gram_rows, SMALL_VOCABULARY),
    )


def loss_seconds(config: RunConfig, positions: int, device: torch.device, precision: str) -> tuple[float, float]:
    """Of the loss and its gradients over a micro batch; and of AdamW for one weight. Measured on a slice of the vocabulary."""
    c = config.model
    words, rows = min(c.vocab_size, CHUNK_WORDS), min(positions, chunk_rows(c.vocab_size))
    output = Output(words, c.n_embd, device)
    few = min(FEW, rows)
    with_weights = seconds_of(output.work(few, precision))
    with_tokens = seconds_of(output.work(rows, precision))
    scale = c.vocab_size / words
    each = max(0.0, with_tokens - with_weights) / max(1, rows - few)
    optimizer = adamw([output.unembedding], config.train)
    of_weight = seconds_of_step(output, optimizer) / output.unembedding.numel()
    return scale * (with_weights + each * (positions - few)), of_weight


class Output(nn.Module):
    """Of a model only what the loss asks for: hidden states, and the output matrix."""

    def __init__(self, vocab_size: int, n_embd: int, device: torch.device) -> None:
        super().__init__()
        self.unembedding = nn.Parameter(torch.full((vocab_size, n_embd), 0.01, device=device))

    def hidden(self, tokens: Tensor) -> Tensor:
        return self.states[:, : tokens.shape[1]]

    def work(self, positions: int, precision: str) -> Callable[[], object]:
        device = self.unembedding.device
        tokens = torch.zeros(1, positions, dtype=torch.long, device=device)
        self.states = torch.full((1, positions, self.unembedding.shape[1]), 0.01, device=device, requires_grad=True)

        def forward_and_backward() -> float:
            with autocast(device, precision):
                loss = chunked_loss(self, Batch(tokens, tokens))
            loss.backward()  # type: ignore[no-untyped-call]
            self.unembedding.grad = self.states.grad = None
            return loss.item()

        return forward_and_backward


def filled(model: LanguageModel) -> LanguageModel:
    """With a small number for every weight: it takes a fraction of drawing them, and computes as fast."""
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.01)
    return model


def pass_through(model: LanguageModel, rows: int, length: int, precision: str) -> Callable[[], object]:
    """Forward and backward of everything below the output, over (rows, length) tokens."""
    device = next(model.parameters()).device
    tokens = torch.zeros(rows, length, dtype=torch.long, device=device)
    upstream = torch.full((rows, length, model.config.n_embd), 0.01, device=device)

    def forward_and_backward() -> float:
        with autocast(device, precision):
            hidden = model.hidden(tokens)
        hidden.backward(upstream)  # type: ignore[no-untyped-call]
        model.zero_grad()
        return hidden.flatten()[0].item()  # a GPU has done nothing before it is waited for

    return forward_and_backward


def seconds_of_step(model: nn.Module, optimizer: Optimizer) -> float:
    """Of a step of the optimizer, the gradients' length and clipping included."""
    weights = list(model.parameters())
    for p in weights:
        p.grad = torch.full_like(p, 0.01)

    def step() -> float:
        norm = nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
        nn.utils.clip_grads_with_norm_(weights, 1.0, norm)
        optimizer.step()
        return norm.item()

    seconds = seconds_of(step)
    model.zero_grad()
    return seconds


def seconds_of(work: Callable[[], object]) -> float:
    """The best of three, of fewer where they take long, after one that also pays for memory and kernels."""
    work()
    best, begin = math.inf, time.perf_counter()
    for _ in range(3):
        best = min(best, timed(work))
        if time.perf_counter() - begin > MEASURING_SECONDS:
            break
    return best


def quick_ratio(
    plain: Callable[[], object], other: Callable[[], object], run_seconds: Callable[[float], float]
) -> float:
    """As training's own trial, which takes seconds; `plain` has run before."""
    other()
    return timed(plain) / timed(other)


def timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before
