"""What each head looks for, in four numbers: measured on random tokens that come twice, where nothing is there to be
understood and only what was read before can help (Olsson et al. 2022, 2209.11895).

Shapes: L n_layer, B batch, H n_head, T positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.errors import ConfigError
from glassgpt.inspection.capture import capture, evaluated
from glassgpt.model import LanguageModel

REPEATED, ROWS = 50, 4  # tokens that are repeated, texts
SHORTEST = 3  # fewer, and "the one before" and "the same one earlier" are the same position


class HeadScores(NamedTuple):
    """Mean attention weight (L, H), between 0 and 1, that each head gives to certain positions before its own."""

    previous_token: Tensor  # the one before
    first_token: Tensor  # the very first: where heads rest that have found nothing
    duplicate_token: Tensor  # the same token, wherever it stood earlier
    induction: Tensor  # what followed the same token, wherever it stood earlier: it will follow again


def head_scores(model: LanguageModel, seed: int = 1337, ids: Sequence[int] = ()) -> HeadScores:
    """The scores of every head, on tokens drawn from `ids`, or from all of the vocabulary where there are none. A head that
    spread its weight evenly would have about 0.04 for the first two, and 0.014 for the others: more where there are so few
    tokens that one comes again by chance, 0.11 of ten.

    Raises ConfigError where the context is too short for a repetition, and for an id that is none of this model's."""
    length = min(REPEATED, model.config.context_length // 2)
    if length < SHORTEST:
        raise ConfigError(
            f"context_length {model.config.context_length} is too short to show heads a repetition; it takes {2 * SHORTEST}"
        )
    drawn_from = torch.as_tensor(ids or range(model.config.vocab_size))
    generator = torch.Generator().manual_seed(seed)
    half = drawn_from[torch.randint(len(drawn_from), (ROWS, length), generator=generator)]
    tokens = torch.cat((half, half), dim=1).to(model.unembedding.device)  # (B, T)
    with evaluated(model), torch.inference_mode():
        found = capture(model, tokens, ["block.*.weights"])
    weights = torch.stack([found[f"block.{i}.weights"] for i in range(len(model.blocks))])  # (L, B, H, T, T)
    same = (tokens[:, :, None] == tokens[:, None, :]).tril(-1)  # (B, T, T): which positions before hold the same token
    after_same = F.pad(same, (1, -1)).tril(-1)

    def weight_on(places: Tensor, beginning: int) -> Tensor:
        """What each head gives to `places` (B, T, T), mean over the positions from `beginning` on."""
        return (weights * places[:, None])[..., beginning:, :].sum(dim=-1).mean(dim=(1, -1))

    return HeadScores(
        # The token before the second position is the first one, which counts as that.
        previous_token=weights.diagonal(offset=-1, dim1=-2, dim2=-1)[..., 1:].mean(dim=(1, -1)),
        first_token=weights[..., 2:, 0].mean(dim=(1, -1)),
        duplicate_token=weight_on(same, length + 1),
        induction=weight_on(after_same, length),
    )
