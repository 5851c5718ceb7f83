"""Next-token cross-entropy: how surprised the model is by what comes next, in nats."""

import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.data import IGNORE_INDEX, Batch


def summed_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Nats over all targets of the batch that are not IGNORE_INDEX, summed: a scalar, float32."""
    logits = model(batch.tokens)  # (B, T, V)
    return F.cross_entropy(
        logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )


def count_targets(batch: Batch) -> int:
    return int((batch.targets != IGNORE_INDEX).sum())
