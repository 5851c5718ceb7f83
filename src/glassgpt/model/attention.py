"""Causal attention, twice: spelled out as the lesson, and fused for speed. Both compute the same function.

Shapes: B batch, H query heads, K key and value heads (K divides H), T positions in this call, S positions attended to
(S >= T: the earlier ones come from the cache), D width of a head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Scores, mask, softmax, weighted sum (Vaswani et al. 2017, section 3.2.1).

    q (B, H, T, D), k and v (B, K, S, D) -> (B, H, T, D). The T queries are the last T of the S positions; query i sees
    the keys up to its own position.
    """
    weights = attention_weights(q, k)  # (B, H, T, S)
    weights = F.dropout(weights, dropout, training=dropout > 0)
    return weights @ for_each_query_head(v, q.shape[1])


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """How much each query takes from each position: (B, H, T, S), every row sums to 1, zero after the query itself."""
    T, S, D = q.shape[-2], k.shape[-2], q.shape[-1]
    scores = q @ for_each_query_head(k, q.shape[1]).transpose(-2, -1) / math.sqrt(D)  # (B, H, T, S)
    return scores.masked_fill(~causal_mask(T, S, q.device), float("-inf")).softmax(dim=-1)


def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """(T, S), True where query i may look: at the S - T earlier positions and at the first i + 1 of its own."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(diagonal=S - T)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """The same in one kernel that never writes the (T, S) weights to memory (Dao et al. 2022, 2205.14135)."""
    T, S = q.shape[-2], k.shape[-2]
    mask, is_causal = None, False  # plain values on every way: a compiled model takes lengths that change
    if T == 1:
        pass  # a single query sees every key
    elif T == S:
        is_causal = True  # torch aligns its own mask with the first key, ours with the last: here they agree
    else:
        mask = causal_mask(T, S, q.device)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1]
    )


def for_each_query_head(x: Tensor, n_head: int) -> Tensor:
    """(B, K, S, D) -> (B, H, S, D): each key and value head serves H / K query heads in a row (Ainslie et al. 2023)."""
    return x if x.shape[1] == n_head else x.repeat_interleave(n_head // x.shape[1], dim=1)
