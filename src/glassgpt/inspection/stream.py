"""The residual stream: how it grows, what each part of the model writes into it, and what it would say if it ended there.

Shapes: B batch, T positions, C n_embd, H n_head, D head_dim, V vocab_size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from glassgpt.errors import ConfigError
from glassgpt.inspection.capture import embedding_parts, last_of_attention, require_layer
from glassgpt.model import LanguageModel
from glassgpt.model.lora import matrix_of


def stages(model: LanguageModel) -> list[str]:
    """The names of the stream, from the embedding to the last block."""
    return ["embedding", *(f"block.{i}" for i in range(len(model.blocks)))]


def parts(model: LanguageModel) -> list[str]:
    """The names of what adds up to the stream."""
    blocks = [f"block.{i}.{part}" for i in range(len(model.blocks)) for part in ("attention", "mlp")]
    return [*(embedding_parts(model) or ["embedding"]), *blocks]


def logit_lens(model: LanguageModel, stream: Tensor) -> Tensor:
    """What the model would say if no block came after: (..., C) -> logits (..., V) (nostalgebraist 2020, "interpreting GPT:
    the logit lens"). The last norm is applied as it is, nothing is folded or centred."""
    return model.unembed(model.final_norm(stream.to(model.unembedding.dtype)))


def contributions(model: LanguageModel, found: Mapping[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
    """How much of the logit of `tokens` (B, T) each part writes directly, by name, (B, T) each; with "bias", what the last
    norm adds by itself, they sum to the logit. `found` is what `capture` has of `parts(model)` and of the last block.

    The last norm divides by a length that all parts have made together: it is taken as it came out (direct logit
    attribution, Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). Raises ConfigError where the stream
    is no sum of its parts, as in a post-norm model, or `found` lacks one of them.
    """
    require_sum(model)
    if missing := [name for name in [*parts(model), stages(model)[-1]] if name not in found]:
        raise ConfigError(
            f"what was captured lacks {', '.join(missing)}; capture [*parts(model), *stages(model)] for contributions"
        )
    stream = found[stages(model)[-1]]
    direction = model.unembedding[tokens]  # (B, T, C)
    norm = model.final_norm
    written = {name: (through_norm(norm, found[name], stream) * direction).sum(dim=-1) for name in parts(model)}
    bias = getattr(norm, "bias", None)
    return written | {"bias": torch.zeros_like(stream[..., 0]) if bias is None else (bias * direction).sum(dim=-1)}


def head_outputs(model: LanguageModel, layer: int, heads: Tensor) -> Tensor:
    """What each head of a layer adds to the stream: heads (B, H, T, D) -> (B, H, T, C). The projection's bias is nobody's.
    Raises ConfigError for a layer that there is not."""
    require_layer(model, layer)
    projection = last_of_attention(model.blocks[layer])
    matrix = matrix_of(projection)  # (C, H D)
    return torch.einsum("bhtd,chd->bhtc", heads, matrix.view(len(matrix), heads.shape[1], -1))


def through_norm(norm: nn.Module, part: Tensor, stream: Tensor) -> Tensor:
    """The share of `part` in the norm of `stream`, (..., C) each: linear in `part`, and the norm itself but for its bias where
    `part` is all of the stream."""
    centred = not isinstance(norm, nn.RMSNorm)
    if centred:
        part, stream = part - part.mean(dim=-1, keepdim=True), stream - stream.mean(dim=-1, keepdim=True)
    eps, weight = norm.eps, norm.weight
    return part / (stream.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight  # type: ignore[operator]


def is_sum(model: LanguageModel) -> bool:
    """Whether the residual stream is the sum of what its parts write: not where it is normalised itself, or there is none."""
    return model.config.norm_position == "pre" and model.config.residual


def require_sum(model: LanguageModel) -> None:
    if not is_sum(model):
        raise ConfigError(
            "without a residual stream that is a sum (norm_position post, or residual false) no part of it can be told apart; "
            "look at the stream itself"
        )
