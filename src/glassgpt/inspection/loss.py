"""How well a model reads tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.errors import ConfigError
from glassgpt.inspection.capture import require_tokens
from glassgpt.model import LanguageModel
from glassgpt.model.classifier import Classifier


def require_text(model: LanguageModel) -> None:
    """Raises ConfigError for a model that expects no next token."""
    if isinstance(model, Classifier):
        raise ConfigError(
            "this model tells labels apart and expects no next token; capture and trace show what it computes of a text"
        )


def require_loss(model: LanguageModel, tokens: Tensor) -> None:
    """Raises ConfigError for a model that expects no next token, for tokens that are none of this model's, and where none of
    them has a next one."""
    require_text(model)
    require_tokens(model, tokens)
    if tokens.shape[1] < 2:
        raise ConfigError(
            f"tokens are {tuple(tokens.shape)}, and have to be (B, T) with T at least 2: a loss needs a next token"
        )


def loss_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean nats a token, in float32 at least: logits (B, T - 1, V) of all but the last of `tokens` (B, T)."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.flatten(0, 1).to(exact), tokens[:, 1:].flatten())
