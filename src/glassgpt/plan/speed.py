"""How long a training step takes on this machine, from half a second of measuring.

A model whose micro batch is computed at once is built and trained for a few steps. Of a larger one, or with gradient
checkpointing, a single block is, and a slice of the loss, and the optimizer on that block: a step is so many of each. What
every micro batch pays for the weights alone (they are converted, their gradients added) is measured with next to no tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig, RunConfig
from glassgpt.data import Batch, Batches
from glassgpt.machine import decide_precision
from glassgpt.model import LanguageModel, build_model
from glassgpt.model.classifier import Classifier
from glassgpt.model.lora import attach_lora, lora_of
from glassgpt.model.size import count_parameters, training_flops
from glassgpt.plan.timing import Decided, seconds_of, timed, warm_seconds_of
from glassgpt.train.loss import chunk_rows, chunked_loss
from glassgpt.train.memory import outputs
from glassgpt.train.optimizer import Optimizer, adamw, build_optimizer
from glassgpt.train.replicas import Replicas
from glassgpt.train.settle import MOST_REPLICAS, require_shares, settle_replicas
from glassgpt.train.step import autocast, update
from glassgpt.train.trial import Trial

# Operations of a micro batch up to which the whole model is measured; and of a piece of a block: of an eighth, bfloat16 comes
# out no faster where it is twice as fast in training.
WHOLE, PIECE = 40e9, 24e9
# Of a larger piece, where this one is over sooner: threads that meet take a tenth of that at most.
SHORT_PIECE_SECONDS, PIECE_SECONDS = 0.04, 0.1
LOSS_SECONDS = 0.05  # a few milliseconds each: the best of two is off by a third
HIDDEN = 2_000_000  # numbers in so many blocks as the optimizer is measured on
DRAWN = 4099  # a prime: no two rows begin alike
FEW = 16  # tokens that cost next to nothing beside the weights
SMALL_VOCABULARY, SLICE = 64, 4096  # words: of a block alone, and of the loss


@dataclass(frozen=True, kw_only=True)
class Speed:
    """`step`: seconds of one optimizer update; `parts`: what they go to, where that was measured one by one; `gains`: how many
    times faster bfloat16 and replicas were, where that decided."""

    step: float
    precision: str
    replicas: int
    parts: dict[str, float]
    gains: dict[str, float] = field(default_factory=dict)


def measure_speed(config: RunConfig, micro_batch_size: int, device: torch.device) -> Speed:
    """Of a step of `config`, whose vocabulary is known, in micro batches of that size. torch.compile is left out. Raises
    ConfigError for replicas that training would refuse."""
    require_shares(config, micro_batch_size)
    tokens = micro_batch_size * config.model.context_length
    is_small = training_flops(config.model) * tokens <= WHOLE and not config.train.gradient_checkpointing
    return (speed_of_whole if is_small else speed_of_parts)(config, micro_batch_size, device)


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
        piece()  # the first one takes several times as long
        decided.seconds = timed(piece)
    to_compare = decided.ratio_of("replicas")
    count = int(settle_replicas(config, trial, threads, precision, decided.seconds or 0.0, to_compare).choice)
    if not config.machine.replicas and decided.seconds is not None:
        in_optimizer = seconds_of_step(model, build_optimizer(model, train, precision))
        return speed_of(decided.seconds * train.batch_size / trial.rows, in_optimizer, precision, count, decided.gains)
    each = micro_batch_size if train.micro_batch_size else micro_batch_size // count  # they share what was not said
    at_once, optimizer = each * count, build_optimizer(model, train, precision)
    read = batches.batch(0, at_once)
    batch = Batch(read.tokens.to(device), read.targets.to(device))
    settled, replicas = config.resolved(micro_batch_size=each, batch_size=at_once).train, Replicas(model, count)
    try:
        if count > 1:
            torch.set_num_threads(1)
        step = seconds_of(
            lambda: update(
                model, optimizer, batch,
                step=0, learning_rate=1e-9, config=settled, precision=precision, loss=chunked_loss, replicas=replicas,
            ),
            enough=0.1,
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    in_optimizer = seconds_of_step(model, optimizer)
    in_passes = train.batch_size / at_once * max(0.0, step - in_optimizer)
    return speed_of(in_passes, in_optimizer, precision, count, decided.gains)


def speed_of(in_passes: float, in_optimizer: float, precision: str, replicas: int, gains: dict[str, float]) -> Speed:
    parts = {"forward and backward": in_passes, "optimizer": in_optimizer}
    return Speed(step=sum(parts.values()), precision=precision, replicas=replicas, parts=parts, gains=gains)


def speed_of_parts(config: RunConfig, micro_batch_size: int, device: torch.device) -> Speed:
    """A block, a slice of the loss and the optimizer of a block, each times as often as a step has it."""
    c, train = config.model, config.train
    micro_steps = math.ceil(train.batch_size / micro_batch_size)
    positions = micro_batch_size * c.context_length
    one_block = thinned(c, 1)
    thin = prepared(build_model(one_block, device=device), config)
    flops = training_flops(one_block)

    def work(rows: int, length: int, precision: str) -> Callable[[], object]:
        return pass_through(thin, rows, length, precision, twice=train.gradient_checkpointing)

    def shape_of(tokens: int) -> tuple[int, int]:
        """Whole windows of so many tokens, or where one takes more a part of it."""
        return min(micro_batch_size, max(1, tokens // c.context_length)), min(c.context_length, tokens)

    piece = shape_of(max(2, int(PIECE / flops)))
    share = positions / math.prod(piece)
    decided = Decided(lambda seconds: 60 * train.minutes or train.max_steps * micro_steps * c.n_layer * share * seconds)
    precision = decide_precision(
        config.machine.precision,
        device,
        lambda choice: work(*piece, choice),
        decided.run_seconds,
        decided.ratio_of("bfloat16"),
    ).choice

    again = work(*piece, precision)
    if decided.seconds is None:
        again()  # the first one takes several times as long
        decided.seconds = timed(again)
    if decided.seconds >= SHORT_PIECE_SECONDS or piece == (micro_batch_size, c.context_length):
        more = 2 if decided.seconds < PIECE_SECONDS else 1
        large, of_large = piece, min(decided.seconds, *(timed(again) for _ in range(more)))
    else:
        large = shape_of(int(PIECE_SECONDS / decided.seconds * math.prod(piece)))
        of_large = warm_seconds_of(work(*large, precision))
    length = large[1]
    small = 1, max(1, min(FEW, length // 2))
    with_blocks = warm_seconds_of(work(*small, precision)), of_large
    count = count_parameters(c)
    in_blocks = (count.attention + count.mlp) // c.n_layer
    layers = max(1, min(c.n_layer, HIDDEN // in_blocks))
    several = thin if layers == 1 else prepared(build_model(thinned(c, layers), device=device), config)
    in_optimizer = seconds_of_step(several, build_optimizer(several, train, precision)) * c.n_layer / layers
    del thin.blocks[:]
    around = [warm_seconds_of(pass_through(thin, *size, precision, twice=False)) for size in (small, large)]
    longer = flops / training_flops(replace(one_block, context_length=length))

    def of_micro_batch(of_small: float, of_large: float) -> float:
        return at(positions, math.prod(small), of_small, math.prod(large), of_large, longer)

    block = of_micro_batch(with_blocks[0] - around[0], with_blocks[1] - around[1])
    in_loss, to_move, to_add = loss_seconds(config, positions, device, precision)
    learning = 0 if config.finetune.lora else count.total
    # Where the output layer is the embedding, both have a gradient as large as it, and one is added to the other.
    joined = count.embedding if learning and c.tie_embeddings and config.data.task != "labels" else 0
    step = {
        "blocks": micro_steps * c.n_layer * block,
        "embedding and last norm": micro_steps * of_micro_batch(*around),
        "loss": micro_steps * in_loss,
        "adding gradients": to_add * ((micro_steps - 1) * learning + micro_steps * joined),
        "optimizer": in_optimizer + to_move * max(0, learning - c.n_layer * in_blocks),
    }
    replicas = max(1, config.machine.replicas)
    return Speed(step=sum(step.values()), precision=precision, replicas=replicas, parts=step, gains=decided.gains)


def thinned(c: GPTConfig, layers: int) -> GPTConfig:
    """So many blocks, and next to no vocabulary."""
    return replace(
        c,
        n_layer=layers,
        vocab_size=min(c.vocab_size, SMALL_VOCABULARY),
        n_gram_rows=min(c.n_gram_rows, SMALL_VOCABULARY),
    )


def at(
    tokens: int, small: int, seconds_of_small: float, large: int, seconds_of_large: float, longer: float = 1.0
) -> float:
    """Seconds for so many tokens, on the line through those of a small and a large piece; `longer`: how much longer each token
    takes there."""
    each = max(0.0, seconds_of_large - seconds_of_small) / max(1, large - small)
    return max(0.0, seconds_of_small - each * small) + longer * each * tokens


def loss_seconds(config: RunConfig, positions: int, device: torch.device, precision: str) -> tuple[float, float, float]:
    """Of the loss and its gradients over a micro batch; of AdamW for one weight; and of adding one gradient to another.
    Measured on a slice of the vocabulary."""
    c, every = config.model, outputs(config)
    words, rows = min(every, SLICE), min(positions, chunk_rows(every))
    output = Output(words, c.n_embd, device).requires_grad_(not config.finetune.lora)
    part = max(1, min(FEW, rows // 2))
    of_part, of_rows = (warm_seconds_of(output.work(n, precision), LOSS_SECONDS) for n in (part, rows))
    seconds = at(positions, part, of_part, rows, of_rows)
    optimizer = adamw([output.unembedding], config.train)
    to_move = seconds_of_step(output, optimizer)
    one, other = (noise(output.unembedding.numel(), device) for _ in range(2))
    to_add = seconds_of(lambda: one.add_(other)[0].item())
    return every / words * seconds, to_move / one.numel(), to_add / one.numel()


class Output(nn.Module):
    """Of a model only what the loss asks for: hidden states, and the output matrix."""

    def __init__(self, vocab_size: int, n_embd: int, device: torch.device) -> None:
        super().__init__()
        self.unembedding = nn.Parameter(noise(vocab_size * n_embd, device).view(vocab_size, -1))

    def hidden(self, states: Tensor) -> Tensor:
        """In the place of tokens it is given what they would become."""
        return states

    def work(self, positions: int, precision: str) -> Callable[[], object]:
        device = self.unembedding.device
        targets = torch.zeros(1, positions, dtype=torch.long, device=device)
        states = noise(positions * self.unembedding.shape[1], device).view(1, positions, -1).requires_grad_()

        def forward_and_backward() -> float:
            with autocast(device, precision):
                loss = chunked_loss(self, Batch(states, targets))
            loss.backward()  # type: ignore[no-untyped-call]
            self.unembedding.grad = states.grad = None
            return loss.item()

        return forward_and_backward


def prepared(model: LanguageModel, config: RunConfig) -> LanguageModel:
    """As training has it, but with the same few thousand random numbers in every weight: that is sooner done than drawing all.
    (One number for all is even faster, and makes gradients so small that a processor takes twice as long for them.)"""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(noise(p.numel(), p.device).view_as(p))
    if (lora := lora_of(config.finetune)) is not None:
        attach_lora(model, lora, config.train.seed)
        model.embedding.requires_grad_(True)  # as if a block came before: what goes in has a gradient
    return model.train()


def noise(count: int, device: torch.device) -> Tensor:
    """(count,) numbers as a model begins with."""
    drawn = 0.02 * torch.randn(DRAWN, generator=torch.Generator().manual_seed(1)).to(device)
    return drawn.repeat(-(-count // DRAWN))[:count]


def pass_through(
    model: LanguageModel, rows: int, length: int, precision: str, twice: bool = False
) -> Callable[[], object]:
    """Forward and backward of everything below the output, over (rows, length) tokens. `twice`: as with gradient
    checkpointing, whose own code loads the compiler first, which takes 0.8 seconds."""
    device = next(model.parameters()).device
    tokens = torch.arange(rows * length, device=device).view(rows, length) % model.config.vocab_size
    upstream = noise(rows * length * model.config.n_embd, device).view(rows, length, -1)

    def forward_and_backward() -> float:
        if twice:  # with a conversion of the weights of its own, as there
            with torch.no_grad(), autocast(device, precision):
                model.hidden(tokens)
        with autocast(device, precision):
            hidden = model.hidden(tokens)
        if hidden.requires_grad:  # not of frozen weights around no block
            # Of a number: a backward that is given its gradient loads sympy first, which takes 0.3 seconds.
            torch.dot(hidden.flatten(), upstream.flatten()).backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        return hidden.flatten()[0].item()  # a GPU has done nothing before it is waited for

    return forward_and_backward


def seconds_of_step(model: nn.Module, optimizer: Optimizer) -> float:
    """Of a step of the optimizer, the gradients' length and clipping included."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        return 0.0
    for p in weights:
        p.grad = noise(p.numel(), p.device).view_as(p)

    def step() -> float:
        norm = nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
        nn.utils.clip_grads_with_norm_(weights, 1.0, norm)
        optimizer.step()
        return norm.item()

    seconds = seconds_of(step)
    model.zero_grad()
    return seconds
