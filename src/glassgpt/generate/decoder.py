"""The model in a loop: each token it gives becomes part of what it reads next."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from glassgpt.model import LanguageModel


@torch.inference_mode()
def decode(
    model: LanguageModel, tokens: Tensor, choose: Callable[[Tensor], Tensor], cached: bool = True
) -> Iterator[Tensor]:
    """Without end: tokens (B, T), T >= 1 -> one tensor (B,) of new tokens after another. `choose` maps logits (B, V) to
    tokens (B,).

    The rule past the context: the model sees the last context_length tokens. Up to there the cache makes each token cost
    one position; beyond, every position has moved, so the window is read anew for each token. Cached or not, the ids are
    the same.
    """
    limit: int = model.config.context_length
    window = tokens[:, -limit:]
    cache = model.new_cache(len(tokens)) if cached else None
    unread = window
    while True:
        if cache is not None and cache.length + unread.shape[1] <= limit:
            hidden = model.hidden(unread, cache)
        else:
            cache = None
            hidden = model.hidden(window)
        logits = model.unembed(hidden[:, -1])  # (B, V)
        chosen = choose(logits).to(tokens.device)
        yield chosen
        unread = chosen[:, None]
        window = torch.cat([window, unread], dim=1)[:, -limit:]
