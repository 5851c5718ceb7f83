"""What every architecture answers to, so that training and generation need not know which one they have."""

import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.errors import ConfigError
from glassgpt.model.cache import Cache


class LanguageModel(nn.Module):
    """B batch, T positions in this call, C n_embd, V vocab_size."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        raise NotImplementedError

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (B, T) -> what the last norm gives, (B, T, C). With a cache, `tokens` continue what it holds."""
        raise NotImplementedError

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, in order."""
        raise NotImplementedError

    @property
    def embedding(self) -> Tensor:
        """What each token is read as (V, C)."""
        raise NotImplementedError

    @property
    def final_norm(self) -> nn.Module:
        """What the residual stream passes through before it is unembedded."""
        raise NotImplementedError

    @property
    def unembedding(self) -> Tensor:
        """The output matrix (V, C)."""
        raise NotImplementedError

    def unembed(self, hidden: Tensor) -> Tensor:
        """(..., C) -> logits (..., V)."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (B, T) -> logits (B, T, V)."""
        return self.unembed(self.hidden(tokens, cache))

    def new_cache(self, batch_size: int) -> Cache:
        """Room for context_length positions of `batch_size` rows, in the weights' precision, where they are."""
        like = next(self.parameters())
        c = self.config
        return Cache(c.n_layer, batch_size, c.kv_heads, c.context_length, c.head_width, like)

    def positions(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        """(T,): where in the context `tokens` (B, T) stand. Raises ConfigError where they reach beyond it."""
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        if end > self.config.context_length:
            raise ConfigError(
                f"{end} positions are more than this model's context_length {self.config.context_length}; "
                "pass the last ones only"
            )
        return torch.arange(start, end, device=tokens.device)
