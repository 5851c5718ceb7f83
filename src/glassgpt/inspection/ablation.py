"""What the model loses without one of its parts: the loss with each head, each attention and each MLP silenced, and each
part of an embedding that has several.

Shapes: L n_layer, B batch, H n_head, T positions.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from glassgpt.inspection.capture import begun_at, capture, edited, embedding_parts, evaluated
from glassgpt.inspection.loss import loss_of, require_loss
from glassgpt.inspection.stream import stages
from glassgpt.inspection.watch import Edit
from glassgpt.model import LanguageModel


class Ablation(NamedTuple):
    """Nats a token: `loss` of the whole model, and by how much it grows without a part. Less than 0: it is better without."""

    loss: float
    heads: Tensor  # (L, H)
    attention: Tensor  # (L,)
    mlp: Tensor  # (L,)
    embedding: dict[str, float]  # of each part, by name; none where it is one: without it there is nothing to read


def ablate(
    model: LanguageModel, tokens: Tensor, progress: Callable[[int, int], None] = lambda done, of: None
) -> Ablation:
    """Silence is zero: a part that is left out writes nothing into the residual stream (but for a bias behind it, where the
    model has some). `tokens` (B, T), T at least 2; `progress` hears how many of how many forwards are done. Raises ConfigError
    for fewer, for tokens that are none of this model's, and for a model that tells labels apart."""
    require_loss(model, tokens)
    L, H = len(model.blocks), model.config.n_head
    read = tokens[:, :-1]
    named = embedding_parts(model)
    parts = list(_each(L, H, named))
    with evaluated(model), torch.inference_mode():
        found = capture(model, read, stages(model))
        # Numbers and no tensors: a small one that is kept lies behind the logits, whose memory could then not be used again
        # for the next ones.
        losses = [loss_of(found.pop("logits"), tokens).item()]
        progress(1, 1 + len(parts))
        for done, (block, edit) in enumerate(parts, start=2):
            begun = nullcontext() if block is None else begun_at(model, block, found[stages(model)[block]])
            with begun, edited(model, edit):
                losses.append(loss_of(model(read), tokens).item())
            progress(done, 1 + len(parts))
    whole, *without = losses
    more = torch.tensor(without) - whole
    heads, attention, mlp, embedding = torch.split(more, [L * H, L, L, len(named)])
    return Ablation(whole, heads.view(L, H), attention, mlp, dict(zip(named, embedding.tolist(), strict=True)))


def _each(L: int, H: int, embedding: list[str]) -> Iterator[tuple[int | None, dict[str, Edit]]]:
    """The block that a part is in, None before all of them, and the edit that silences it."""
    for i in range(L):
        for head in range(H):
            yield i, {f"block.{i}.heads": _without_head(head)}
    for part in ("attention", "mlp"):
        for i in range(L):
            yield i, {f"block.{i}.{part}": torch.zeros_like}
    for name in embedding:
        yield None, {name: torch.zeros_like}


def _without_head(head: int) -> Edit:
    def edit(heads: Tensor) -> Tensor:
        heads[:, head] = 0
        return heads

    return edit
