"""How long a step of a large model takes, or one with gradient checkpointing: a block, a slice of the loss and the optimizer
of a few blocks are timed, and a step is so many of each.

What every micro batch pays for the weights alone (they are converted, their gradients added) is measured with next to no
tokens.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from glassgpt.config import RunConfig
from glassgpt.machine import decide_precision
from glassgpt.model import LanguageModel, build_model
from glassgpt.model.size import count_parameters, training_flops
from glassgpt.plan.pieces import Output, noise, pass_through, prepared, seconds_of_step, thinned
from glassgpt.plan.timing import Decided, Speed, seconds_of, timed, warm_seconds_of
from glassgpt.train.loss import chunk_rows
from glassgpt.train.memory import outputs
from glassgpt.train.optimizer import adamw, build_optimizer

# Operations of a piece of a block: of an eighth, bfloat16 comes out no faster where it is twice as fast in training.
PIECE = 24e9
# Of a larger piece, where this one is over sooner: threads that meet take a tenth of that at most.
SHORT_PIECE_SECONDS, PIECE_SECONDS = 0.04, 0.1
LOSS_SECONDS = 0.05  # a few milliseconds each: the best of two is off by a third
HIDDEN = 2_000_000  # numbers in so many blocks as the optimizer is measured on
FEW = 16  # tokens that cost next to nothing beside the weights
SLICE = 4096  # words of the loss


def speed_of_parts(config: RunConfig, micro_batch_size: int, device: torch.device) -> Speed:
    """Each part as often as a step has it."""
    c, train = config.model, config.train
    micro_steps = math.ceil(train.batch_size / micro_batch_size)
    positions = micro_batch_size * c.context_length
    block = prepared(build_model(thinned(c, 1), device=device), config)
    block.embedding.requires_grad_(True)  # as if a block came before: with adapters too, what goes in has a gradient
    in_blocks = c.n_layer * sum(p.numel() for p in block.blocks.parameters())
    precision, large, decided = decide_on_a_piece(config, block, micro_batch_size, device)
    in_block, around = block_seconds(config, block, precision, large, positions)
    in_loss, to_move, to_add = loss_seconds(config, positions, device, precision)
    count = count_parameters(c)
    learning = 0 if config.finetune.lora else count.total
    # Where the output layer is the embedding, both have a gradient as large as it, and one is added to the other.
    joined = count.embedding if learning and c.tie_embeddings and config.data.task != "labels" else 0
    step = {
        "blocks": micro_steps * c.n_layer * in_block,
        "embedding and last norm": micro_steps * around,
        "loss": micro_steps * in_loss,
        "adding gradients": to_add * ((micro_steps - 1) * learning + micro_steps * joined),
        "optimizer": optimizer_seconds(config, precision, device) + to_move * max(0, learning - in_blocks),
    }
    replicas = max(1, config.machine.replicas)
    return Speed(step=sum(step.values()), precision=precision, replicas=replicas, parts=step, gains=decided.gains)


class Piece(NamedTuple):
    """So many windows, and of each so many tokens; and how long a block takes for them, with what is around it."""

    rows: int
    length: int
    seconds: float

    @property
    def tokens(self) -> int:
        return self.rows * self.length


def decide_on_a_piece(
    config: RunConfig, block: LanguageModel, micro_batch_size: int, device: torch.device
) -> tuple[str, Piece, Decided]:
    """The precision; a piece that takes long enough to stand for all of a micro batch; and what was decided by."""
    c, train = config.model, config.train
    whole = micro_batch_size, c.context_length

    def shape_of(tokens: int) -> tuple[int, int]:
        """Whole windows of so many tokens, or where one takes more a part of it."""
        return min(micro_batch_size, max(1, tokens // c.context_length)), min(c.context_length, tokens)

    def work(shape: tuple[int, int], precision: str) -> Callable[[], object]:
        return pass_through(block, *shape, precision, twice=train.gradient_checkpointing)

    shape = shape_of(max(2, int(PIECE / training_flops(block.config))))
    pieces_a_step = math.ceil(train.batch_size / micro_batch_size) * c.n_layer * math.prod(whole) / math.prod(shape)
    decided = Decided(lambda seconds: 60 * train.minutes or train.max_steps * pieces_a_step * seconds)
    precision = decide_precision(
        config.machine.precision,
        device,
        lambda choice: work(shape, choice),
        decided.run_seconds,
        decided.ratio_of("bfloat16"),
    ).choice
    again = work(shape, precision)
    if decided.seconds is None:
        again()  # the first one also pays for memory and kernels
        decided.seconds = timed(again)
    if decided.seconds < SHORT_PIECE_SECONDS and shape != whole:
        larger = shape_of(int(PIECE_SECONDS / decided.seconds * math.prod(shape)))
        return precision, Piece(*larger, seconds_of(work(larger, precision))), decided
    more = 2 if decided.seconds < PIECE_SECONDS else 1
    return precision, Piece(*shape, min(decided.seconds, *(timed(again) for _ in range(more)))), decided


def block_seconds(
    config: RunConfig, block: LanguageModel, precision: str, large: Piece, positions: int
) -> tuple[float, float]:
    """Of a block for a micro batch of so many positions, and of what stands around all blocks. `block` is without it
    afterwards."""

    def seconds(rows: int, length: int, twice: bool) -> float:
        return warm_seconds_of(pass_through(block, rows, length, precision, twice=twice))

    rows, length = 1, max(1, min(FEW, large.length // 2))
    small = Piece(rows, length, seconds(rows, length, config.train.gradient_checkpointing))
    flops = training_flops(block.config)
    del block.blocks[:]
    without = [seconds(piece.rows, piece.length, False) for piece in (small, large)]
    around = [piece._replace(seconds=seconds) for piece, seconds in zip((small, large), without, strict=True)]
    alone = [piece._replace(seconds=piece.seconds - less) for piece, less in zip((small, large), without, strict=True)]
    longer = flops / training_flops(replace(block.config, context_length=large.length))
    return on_the_line(positions, alone, longer), on_the_line(positions, around)


def on_the_line(tokens: int, pieces: Sequence[Piece], longer: float = 1.0) -> float:
    """Seconds for so many tokens, on the line through those of a small and a large piece; `longer`: how much longer each token
    takes there."""
    small, large = pieces
    each = max(0.0, large.seconds - small.seconds) / max(1, large.tokens - small.tokens)
    return max(0.0, small.seconds - each * small.tokens) + longer * each * tokens


def loss_seconds(config: RunConfig, positions: int, device: torch.device, precision: str) -> tuple[float, float, float]:
    """Of the loss and its gradients over a micro batch; of AdamW for one weight; and of adding one gradient to another.
    Measured on a slice of the vocabulary."""
    every = outputs(config)
    words, rows = min(every, SLICE), min(positions, chunk_rows(every))
    output = Output(words, config.model.n_embd, device).requires_grad_(not config.finetune.lora)
    part = max(1, min(FEW, rows // 2))
    measured = [Piece(1, n, warm_seconds_of(output.work(n, precision), LOSS_SECONDS)) for n in (part, rows)]
    to_move = seconds_of_step(output, adamw([output.unembedding], config.train))
    one, other = (noise(output.unembedding.numel(), device) for _ in range(2))
    to_add = seconds_of(lambda: one.add_(other)[0].item())
    return every / words * on_the_line(positions, measured), to_move / one.numel(), to_add / one.numel()


def optimizer_seconds(config: RunConfig, precision: str, device: torch.device) -> float:
    """Of the optimizer on all blocks, measured on a few."""
    c, count = config.model, count_parameters(config.model)
    layers = max(1, min(c.n_layer, HIDDEN * c.n_layer // (count.attention + count.mlp)))
    several = prepared(build_model(thinned(c, layers), device=device), config)
    in_blocks = {*several.blocks.parameters()}
    for p in several.parameters():
        p.requires_grad_(p.requires_grad and p in in_blocks)
    return seconds_of_step(several, build_optimizer(several, config.train, precision)) * c.n_layer / layers
