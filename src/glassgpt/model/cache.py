"""Keys and values of the positions that were already read, so that writing one more token costs one position.

The cache belongs to the caller: made by `model.new_cache`, passed into `forward`, never stored in the model.
"""

import torch
from torch import Tensor


class Cache:
    """Room for `capacity` positions of every layer.

    keys and values: (n_layer, B, K, capacity, D). `length` positions are filled; all rows of the batch are equally long.
    """

    def __init__(
        self, n_layer: int, batch_size: int, n_kv_head: int, capacity: int, head_dim: int, like: Tensor
    ) -> None:
        """Device and dtype are those of `like`."""
        shape = (n_layer, batch_size, n_kv_head, capacity, head_dim)
        self.keys = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.values = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.tokens = torch.empty(batch_size, capacity, dtype=torch.long, device=like.device)  # those of n-grams
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v (B, K, T, D) of the new positions; return all so far, (B, K, S, D) each.

        Every layer of one forward stores at the same place; `advance` moves on once the forward is through.
        """
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def before(self, tokens: Tensor, reach: int) -> Tensor:
        """Store `tokens` (B, T); return the up to `reach` that stand before them, (B, P)."""
        self.tokens[:, self.length : self.length + tokens.shape[1]] = tokens
        return self.tokens[:, max(0, self.length - reach) : self.length]

    def advance(self, T: int) -> None:
        self.length += T
