"""Where in the model all weights would learn most, if they did: the gradient of one batch, by layer."""

import torch
from torch import Tensor

from glassgpt.data import IGNORE_INDEX, Batch
from glassgpt.errors import ConfigError
from glassgpt.inspection.capture import evaluated, require_tokens
from glassgpt.inspection.loss import require_loss, require_text
from glassgpt.model import LanguageModel
from glassgpt.train.loss import chunked_loss, count_targets


def gradient_norms(model: LanguageModel, tokens: Tensor, targets: Tensor | None = None) -> dict[str, float]:
    """The length of the gradient of the mean loss on `tokens` (B, T), of each block's weights and of what lies before and
    behind them: "embedding", "block.0", ..., "head". `targets` (B, T) are what should follow each token, or IGNORE_INDEX;
    without them the next token is, and nothing after the last one. A matrix that is read and unembedded with (tied) counts as
    embedding. Nothing is left in the model's own gradients; weights that are frozen count as all the others. Raises
    ConfigError for tokens and targets that are none of this model's, where there is nothing to predict, for a model that tells
    labels apart, and for one that was built in inference mode, which has no gradient."""
    if targets is None:
        require_loss(model, tokens)
        tokens, targets = tokens[:, :-1], tokens[:, 1:]
    require_text(model)
    require_tokens(model, tokens)
    require_targets(model, tokens, targets)
    weights = [*model.parameters()]
    if any(p.is_inference() for p in weights):
        raise ConfigError(
            "this model was built in inference mode, and has no gradient; build it outside of torch.inference_mode()"
        )
    blocks = {id(p): f"block.{i}" for i, block in enumerate(model.blocks) for p in block.parameters()}
    behind = {id(p) for p in model.final_norm.parameters()}
    if not model.config.tie_embeddings:
        behind.add(id(model.unembedding))
    frozen = [p for p in weights if not p.requires_grad]
    try:
        for p in frozen:
            p.requires_grad_(True)
        with evaluated(model), torch.inference_mode(False), torch.enable_grad():
            batch = Batch(tokens.clone(), targets.clone())  # of inference mode, they could not be gone back from
            gradients = torch.autograd.grad(chunked_loss(model, batch) / count_targets(batch), weights)
    finally:
        for p in frozen:
            p.requires_grad_(False)
    squares = dict.fromkeys(["embedding", *(f"block.{i}" for i in range(len(model.blocks))), "head"], 0.0)
    for p, gradient in zip(weights, gradients, strict=True):
        squares[blocks.get(id(p), "head" if id(p) in behind else "embedding")] += (
            gradient.cpu().double().square().sum().item()
        )
    return {name: square**0.5 for name, square in squares.items()}


def require_targets(model: LanguageModel, tokens: Tensor, targets: Tensor) -> None:
    if not isinstance(targets, Tensor) or targets.shape != tokens.shape or targets.dtype != torch.int64:
        raise ConfigError(
            f"targets have to be a tensor {tuple(tokens.shape)} of torch.int64, what should follow each of the tokens"
        )
    counted = targets[targets != IGNORE_INDEX]
    if not len(counted):
        raise ConfigError(f"every target is {IGNORE_INDEX}, which counts for nothing; give at least one token")
    require_tokens(model, counted[None])
