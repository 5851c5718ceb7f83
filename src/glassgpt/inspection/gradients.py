"""Where in the model learning would happen: the gradient of one batch, by layer."""

import torch
from torch import Tensor

from glassgpt.inspection.capture import evaluated
from glassgpt.inspection.loss import loss_of, require_loss
from glassgpt.model import LanguageModel


def gradient_norms(model: LanguageModel, tokens: Tensor) -> dict[str, float]:
    """The length of the gradient of the mean loss on `tokens` (B, T), of each block's weights and of what lies before and
    behind them: "embedding", "block.0", ..., "head". A matrix that is read and unembedded with (tied) counts as embedding.
    Nothing is left in the model's own gradients; weights that are frozen count as all the others. Raises ConfigError for
    tokens that are none of this model's, or of which none has a next one, and for a model that tells labels apart."""
    require_loss(model, tokens)
    blocks = {id(p): f"block.{i}" for i, block in enumerate(model.blocks) for p in block.parameters()}
    behind = {id(p) for p in model.final_norm.parameters()}
    if not model.config.tie_embeddings:
        behind.add(id(model.unembedding))
    weights = [*model.parameters()]
    frozen = [p for p in weights if not p.requires_grad]
    try:
        for p in frozen:
            p.requires_grad_(True)
        with evaluated(model), torch.enable_grad():
            gradients = torch.autograd.grad(loss_of(model(tokens[:, :-1]), tokens), weights)
    finally:
        for p in frozen:
            p.requires_grad_(False)
    squares = dict.fromkeys(["embedding", *(f"block.{i}" for i in range(len(model.blocks))), "head"], 0.0)
    for p, gradient in zip(weights, gradients, strict=True):
        squares[blocks.get(id(p), "head" if id(p) in behind else "embedding")] += (
            gradient.cpu().double().square().sum().item()
        )
    return {name: square**0.5 for name, square in squares.items()}
