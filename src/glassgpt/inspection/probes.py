"""Which part of the model knows it: minimal pairs, two texts that differ in the one word that decides what comes next.

An activation of the one text is patched into the other; a part that carries the difference turns the answer round (causal
tracing, Meng et al. 2022, 2202.05262; activation patching, Wang et al. 2022, 2211.00593).

Shapes: L n_layer, B batch, H n_head, T positions, D head_dim.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glassgpt.errors import ConfigError
from glassgpt.inspection.capture import Edit, capture, edited
from glassgpt.model import LanguageModel


class Pair(NamedTuple):
    """Two texts of equally many tokens, (T,) each, and the one token that should follow each of them."""

    text: Tensor
    answer: int
    other_text: Tensor
    other_answer: int


class Attribution(NamedTuple):
    """`preference`: by how many nats each text prefers its own answer, mean over both texts of all pairs; `right`: the share
    of texts that do. `heads` (L, H), `attention` (L,) and `mlp` (L,): how much of that preference is turned round when this
    part is taken from the other text, at all positions; 1 is all of it, 0 nothing."""

    preference: float
    right: float
    heads: Tensor
    attention: Tensor
    mlp: Tensor


def attribute(model: LanguageModel, pairs: Sequence[Pair]) -> Attribution:
    """Raises ConfigError where the two texts of a pair are not equally long, or there is no pair."""
    if not pairs:
        raise ConfigError("there is no pair to probe with; give at least one")
    for pair in pairs:
        if len(pair.text) != len(pair.other_text):
            raise ConfigError(
                f"the texts of a pair have {len(pair.text)} and {len(pair.other_text)} tokens; they have to be equally long"
            )
    with torch.inference_mode():
        wholes, shares = zip(*(_one_pair(model, pair) for pair in pairs), strict=True)
    whole, share = torch.cat(wholes), torch.stack(shares).mean(dim=0)
    L, H = len(model.blocks), model.config.n_head
    return Attribution(
        whole.mean().item(), (whole > 0).float().mean().item(), share[: L * H].view(L, H), share[L * H : -L], share[-L:]
    )


def _one_pair(model: LanguageModel, pair: Pair) -> tuple[Tensor, Tensor]:
    """The preference of both texts, (2,), and the share of it that each head, attention and MLP turns round."""
    L, H = len(model.blocks), model.config.n_head
    tokens = torch.stack((pair.text, pair.other_text))
    answers = torch.tensor([[pair.answer, pair.other_answer], [pair.other_answer, pair.answer]], device=tokens.device)
    names = [f"block.{i}.{part}" for i in range(L) for part in ("heads", "attention", "mlp")]
    found = capture(model, tokens, names)
    whole = _preference(found["logits"], answers)
    edits = [
        {f"block.{i}.heads": _head_taken_from(found[f"block.{i}.heads"].flip(0), head)}
        for i in range(L)
        for head in range(H)
    ]
    for part in ("attention", "mlp"):
        edits += [{name: _taken_from(found[name].flip(0))} for name in (f"block.{i}.{part}" for i in range(L))]
    after = []
    for edit in edits:
        with edited(model, edit):
            after.append(_preference(model(tokens), answers).sum())
    return whole, ((whole.sum() - torch.stack(after)) / (2 * whole.sum())).cpu()


def _preference(logits: Tensor, answers: Tensor) -> Tensor:
    """Nats by which each text prefers the first of its two `answers` (B, 2) to the second: logits (B, T, V) -> (B,)."""
    chosen = logits[:, -1].gather(1, answers)
    return chosen[:, 0] - chosen[:, 1]


def _taken_from(other: Tensor) -> Edit:
    return lambda activation: other


def _head_taken_from(other: Tensor, head: int) -> Edit:
    def edit(heads: Tensor) -> Tensor:
        patched = heads.clone()
        patched[:, head] = other[:, head]
        return patched

    return edit
