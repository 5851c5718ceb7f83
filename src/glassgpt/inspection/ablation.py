"""What the model loses without one of its parts: the loss with each head, each attention and each MLP silenced.

Shapes: L n_layer, B batch, H n_head, T positions.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.inspection.capture import Edit, edited
from glassgpt.model import LanguageModel


class Ablation(NamedTuple):
    """Nats a token: `loss` of the whole model, and by how much it grows without a part. Less than 0: it is better without."""

    loss: float
    heads: Tensor  # (L, H)
    attention: Tensor  # (L,)
    mlp: Tensor  # (L,)


def ablate(
    model: LanguageModel, tokens: Tensor, progress: Callable[[int, int], None] = lambda done, of: None
) -> Ablation:
    """Silence is zero: a part that is left out writes nothing into the residual stream (but for a bias behind it, where the
    model has some). `tokens` (B, T), T at least 2; `progress` hears how many of how many forwards are done."""
    L, H = len(model.blocks), model.config.n_head
    losses = []
    edits = [{}, *_each(L, H)]
    with torch.inference_mode():
        for done, edit in enumerate(edits, start=1):
            with edited(model, edit):
                logits = model(tokens[:, :-1])
            losses.append(F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()))
            progress(done, len(edits))
    whole, without = losses[0], torch.stack(losses[1:])
    more = (without - whole).cpu()
    return Ablation(whole.item(), more[: L * H].view(L, H), more[L * H : -L], more[-L:])


def _each(L: int, H: int) -> Iterator[dict[str, Edit]]:
    for i in range(L):
        for head in range(H):
            yield {f"block.{i}.heads": _without_head(head)}
    for part in ("attention", "mlp"):
        for i in range(L):
            yield {f"block.{i}.{part}": torch.zeros_like}


def _without_head(head: int) -> Edit:
    def edit(heads: Tensor) -> Tensor:
        kept = torch.ones(heads.shape[1], 1, 1, dtype=heads.dtype, device=heads.device)
        kept[head] = 0
        return heads * kept

    return edit
