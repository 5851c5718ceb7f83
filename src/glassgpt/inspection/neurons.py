"""The MLP as a memory: a neuron's key is what excites it, its value what it writes (Geva et al. 2021, 2012.14913); and which
tokens lie next to each other.

Shapes: B batch, T positions, F mlp width, C n_embd, V vocab_size.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.inspection.capture import LAST_OF_MLP, MLP, capture, child_of
from glassgpt.model import LanguageModel


class Excitement(NamedTuple):
    """The positions of a text that excite a neuron most, (F, k) each: the strongest first."""

    activation: Tensor
    row: Tensor
    position: Tensor


def most_excited(model: LanguageModel, tokens: Tensor, layer: int, k: int = 8) -> Excitement:
    """For each neuron of a layer the k of all positions of `tokens` (B, T) at which it is highest."""
    with torch.inference_mode():
        neurons = capture(model, tokens, [f"block.{layer}.neurons"])[f"block.{layer}.neurons"]  # (B, T, F)
    top = neurons.flatten(0, 1).T.topk(min(k, tokens.numel()), dim=-1)
    T = tokens.shape[1]
    return Excitement(top.values, top.indices // T, top.indices % T)


def neuron_writes(model: LanguageModel, layer: int) -> Tensor:
    """What one unit of each neuron adds to every token's logit, the last norm left out: (F, V)."""
    last = child_of(child_of(model.blocks[layer], MLP), LAST_OF_MLP)
    return last.weight.T @ model.unembedding.T  # type: ignore[operator]


def similar_rows(matrix: Tensor, row: int, k: int = 10) -> tuple[Tensor, Tensor]:
    """The k rows of an embedding (V, C) that point most in the direction of one of them, itself left out: cosines and row
    numbers, (k,) each."""
    cosines = F.cosine_similarity(matrix, matrix[row : row + 1])
    cosines[row] = -torch.inf
    top = cosines.topk(min(k, len(matrix) - 1))
    return top.values, top.indices


def cosine_table(matrix: Tensor) -> Tensor:
    """The cosine of every two rows: (N, C) -> (N, N)."""
    rows = F.normalize(matrix, dim=-1)
    return rows @ rows.T
