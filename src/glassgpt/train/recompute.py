"""Gradient checkpointing (Chen et al. 2016, 1604.06174): time for memory, applied to a model from outside."""

from functools import partial

from torch.utils.checkpoint import checkpoint

from glassgpt.model import LanguageModel


def recompute_blocks(model: LanguageModel) -> None:
    """Keep what goes into each block only; the block runs once more when its gradient is due, with the same dropout."""
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
