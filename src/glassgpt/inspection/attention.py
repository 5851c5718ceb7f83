"""What each head looks for, in four numbers: measured on random tokens that come twice, where nothing is there to be
understood and only what was read before can help (Olsson et al. 2022, 2209.11895).

Shapes: L n_layer, B batch, H n_head, T positions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from glassgpt.errors import ConfigError
from glassgpt.inspection.capture import capture
from glassgpt.model import LanguageModel

REPEATED, ROWS = 50, 4  # tokens that are repeated, texts
SHORTEST = 3  # fewer, and "the one before" and "the same one earlier" are the same position


class HeadScores(NamedTuple):
    """Mean attention weight (L, H), between 0 and 1, that each head gives to one certain position."""

    previous_token: Tensor  # the one before
    first_token: Tensor  # the very first: where heads rest that have found nothing
    duplicate_token: Tensor  # the same token, earlier
    induction: Tensor  # what followed the same token, earlier: it will follow again


def head_scores(model: LanguageModel, seed: int = 1337) -> HeadScores:
    """The scores of every head. A head that spread its weight evenly would have about 0.04 for the first two, and 0.014 for
    the others.

    Raises ConfigError where the context is too short for a repetition."""
    length = min(REPEATED, model.config.context_length // 2)
    if length < SHORTEST:
        raise ConfigError(
            f"context_length {model.config.context_length} is too short to show heads a repetition; it takes {2 * SHORTEST}"
        )
    generator = torch.Generator().manual_seed(seed)
    half = torch.randint(model.config.vocab_size, (ROWS, length), generator=generator)
    tokens = torch.cat((half, half), dim=1).to(model.unembedding.device)
    with torch.inference_mode():
        found = capture(model, tokens, ["block.*.weights"])
    weights = torch.stack([found[f"block.{i}.weights"] for i in range(len(model.blocks))])  # (L, B, H, T, T)

    def mean_weight(back: int, beginning: int) -> Tensor:
        """From each position, `beginning` and after, to the one that lies `back` before it: never the first token, which would
        count twice."""
        return weights.diagonal(offset=-back, dim1=-2, dim2=-1)[..., beginning - back :].mean(dim=(1, -1))

    return HeadScores(
        previous_token=mean_weight(1, 2),
        first_token=weights[..., 2:, 0].mean(dim=(1, -1)),
        duplicate_token=mean_weight(length, length + 1),
        induction=mean_weight(length - 1, length),
    )
