"""Gradient checkpointing (Chen et al. 2016, 1604.06174): time for memory, applied to a model from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch.utils.checkpoint import checkpoint

from glassgpt.model import LanguageModel


def recompute_blocks(model: LanguageModel) -> None:
    """Keep what goes into each block only; the block runs once more when its gradient is due, with the same dropout."""
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


@contextmanager
def nothing_recomputed(model: LanguageModel) -> Iterator[None]:
    """While this lasts, each block keeps what it computes: what stands in for a part of it now might be gone when a gradient
    is due, and the block would then be another one."""
    replaced = [(block, vars(block).get("forward")) for block in model.blocks]
    recomputing = [(block, it) for block, it in replaced if isinstance(it, partial) and it.func is checkpoint]
    for block, forward in recomputing:
        block.forward = forward.args[0]
    try:
        yield
    finally:
        for block, forward in recomputing:
            block.forward = forward
