"""The MLP as a memory: a neuron's key is what excites it, its value what it writes (Geva et al. 2021, 2012.14913); and which
tokens lie next to each other.

Shapes: B batch, T positions, F mlp width, C n_embd, V vocab_size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.errors import ConfigError
from glassgpt.inspection.capture import capture, evaluated, last_of_mlp, require_layer
from glassgpt.inspection.stream import require_sum, through_norm
from glassgpt.model import LanguageModel
from glassgpt.model.lora import matrix_of

EVERY = slice(None)


class Excitement(NamedTuple):
    """The positions of a text that excite a neuron most, (F, k) each: the strongest first."""

    activation: Tensor
    row: Tensor
    position: Tensor


def most_excited(model: LanguageModel, tokens: Tensor, layer: int, k: int = 8) -> Excitement:
    """For each neuron of a layer the k of all positions of `tokens` (B, T) at which it is highest."""
    name = f"block.{layer}.neurons"
    with evaluated(model), torch.inference_mode():
        return highest(capture(model, tokens, [name])[name], k)


def highest(neurons: Tensor, k: int) -> Excitement:
    """For each neuron the k positions of a text at which it is highest: neurons (B, T, F)."""
    B, T, _ = neurons.shape
    top = neurons.flatten(0, 1).T.topk(min(k, B * T), dim=-1)
    return Excitement(top.values, top.indices // T, top.indices % T)


def neuron_writes(
    model: LanguageModel, layer: int, neurons: Tensor | slice = EVERY, stream: Tensor | None = None
) -> Tensor:
    """What one unit of each neuron adds to every token's logit: (F, V), or (n, V) of the `neurons` (n,). The last norm is left
    out; with a `stream` (C,), that after the last block at one position, it is taken as it came out there. Raises ConfigError
    for a layer or a neuron that there is not."""
    require_layer(model, layer)
    if not isinstance(neurons, slice):
        require_neurons(model, neurons)
    written = matrix_of(last_of_mlp(model.blocks[layer])).T[neurons]  # (n, C)
    if stream is not None:
        written = through_norm(model.final_norm, written, stream).to(written.dtype)
    return written @ model.unembedding.T


def require_neurons(model: LanguageModel, neurons: Tensor) -> None:
    width = model.config.mlp_width
    asked = torch.as_tensor(neurons)
    for neuron in (int(asked.min()), int(asked.max())) if asked.numel() else ():
        if not 0 <= neuron < width:
            raise ConfigError(f"there is no neuron {neuron}; each layer's are 0 to {width - 1}")


def neuron_contributions(model: LanguageModel, layer: int, neurons: Tensor, stream: Tensor, tokens: Tensor) -> Tensor:
    """How much of the logit of `tokens` (...) each neuron of a layer writes directly, through the last norm as it came out, as
    in `contributions`: neurons (..., F) and the stream after the last block (..., C) -> (..., F). With the bias of the MLP's
    last matrix they sum to what the MLP writes. Holds (..., F, C) at once: meant for a few positions. Raises ConfigError where
    the stream is no sum of its parts, or there is no such layer."""
    require_sum(model)
    require_layer(model, layer)
    written = matrix_of(last_of_mlp(model.blocks[layer])).T  # (F, C)
    directions = model.unembedding[tokens]  # (..., C)
    shares = through_norm(model.final_norm, written, stream[..., None, :])  # (..., F, C)
    return neurons * (shares @ directions.to(shares.dtype)[..., None])[..., 0]


def similar_rows(matrix: Tensor, rows: Sequence[int], k: int = 10) -> tuple[Tensor, Tensor]:
    """For each of some rows of an embedding (V, C) the k others that point most in its direction: cosines and row numbers,
    (rows, k) each."""
    directions = F.normalize(matrix, dim=-1)
    cosines = directions[[*rows]] @ directions.T
    cosines[range(len(rows)), [*rows]] = -torch.inf
    top = cosines.topk(min(k, len(matrix) - 1), dim=-1)
    return top.values, top.indices


def cosine_table(matrix: Tensor) -> Tensor:
    """The cosine of every two rows: (N, C) -> (N, N)."""
    rows = F.normalize(matrix, dim=-1)
    return rows @ rows.T
