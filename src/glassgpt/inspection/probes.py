"""Which part of the model knows it: minimal pairs, two texts that differ in the one word that decides what comes next.

An activation of the one text is patched into the other; a part that carries the difference turns the answer round (causal
tracing, Meng et al. 2022, 2202.05262; activation patching, Wang et al. 2022, 2211.00593).

Shapes: L n_layer, B batch, C n_embd, H n_head, T positions, D head_dim.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from glassgpt.errors import ConfigError
from glassgpt.inspection.capture import begun_at, capture, edited, embedding_parts, evaluated
from glassgpt.inspection.stream import stages
from glassgpt.inspection.watch import Edit
from glassgpt.model import LanguageModel


class Pair(NamedTuple):
    """Two texts of equally many tokens, (T,) each, and the one token that should follow each of them; or the label, by its
    number, of a model that tells labels apart."""

    text: Tensor
    answer: int
    other_text: Tensor
    other_answer: int


class Attribution(NamedTuple):
    """`preference`: by how many nats each text prefers its own answer, mean over both texts of all pairs; `right`: the share
    of texts that do. `heads` (L, H), `attention` (L,), `mlp` (L,), and `embedding` by name, of each part where it has several:
    how much of that preference is turned round when this part is taken from the other text, at all positions; 1 is all of it,
    0 nothing. Where the preference is not above 0, the model does not know it, and shares of it say nothing."""

    preference: float
    right: float
    heads: Tensor
    attention: Tensor
    mlp: Tensor
    embedding: dict[str, float]


def attribute(
    model: LanguageModel, pairs: Pair | Sequence[Pair], progress: Callable[[int, int], None] = lambda done, of: None
) -> Attribution:
    """Of one pair or several; an answer of a model that tells labels apart is the number of a label. `progress` hears how many
    of how many passes are done. One whose texts or answers are the same has no preference, and counts as such among others.
    Raises ConfigError where there is none, none whose texts and answers differ, one whose two texts are not equally long or
    empty, and for tokens and answers that are none of this model's."""
    pairs = [pairs] if isinstance(pairs, Pair) else pairs
    if not pairs:
        raise ConfigError("there is no pair to probe with; give at least one")
    _require_pairs(model, pairs)
    L, H = len(model.blocks), model.config.n_head
    named = embedding_parts(model)
    wholes, after, after_embedding = [], torch.zeros(L, H + 2), torch.zeros(len(named))
    with evaluated(model), torch.inference_mode():
        for number, pair in enumerate(pairs):
            tokens, answers = _side_by_side(pair)
            found = capture(
                model, tokens, [*stages(model), *(f"block.*.{part}" for part in ("heads", "attention", "mlp"))]
            )
            wholes.append(_preference(found["logits"][:, -1], answers))
            for i in range(L):
                edit = _each_part_exchanged(found, i, H)
                stream = found[stages(model)[i]].repeat(H + 2, 1, 1)
                with begun_at(model, i, stream):
                    patched = _patched(model, edit, tokens.repeat(H + 2, 1), answers.repeat(H + 2, 1))
                after[i] += patched.view(H + 2, 2).sum(dim=1).cpu()
                progress(number * L + i + 1, len(pairs) * L)
            for j, name in enumerate(named):
                edit = {name: partial(torch.flip, dims=(0,))}  # each text takes it from the other
                after_embedding[j] += _patched(model, edit, tokens, answers).sum().item()
    whole = torch.cat(wholes).cpu()
    share, of_embedding = ((whole.sum() - left) / (2 * whole.sum()) for left in (after, after_embedding))
    return Attribution(
        whole.mean().item(), (whole > 0).float().mean().item(), share[:, :H], share[:, H], share[:, H + 1],
        dict(zip(named, of_embedding.tolist(), strict=True)),
    )  # fmt: skip


def carried(model: LanguageModel, pair: Pair) -> Tensor:
    """Where the difference is on its way to the end, (L + 1, T): how much of the pair's preference is turned round when the
    residual stream, at this of its `stages` and at this position, is taken from the other text. Raises as `attribute`."""
    _require_pairs(model, [pair])
    tokens, answers = _side_by_side(pair)
    T = tokens.shape[1]
    rows = []
    with evaluated(model), torch.inference_mode():
        found = capture(model, tokens, stages(model))
        whole = _preference(found["logits"][:, -1], answers).sum()
        for stage in stages(model):
            edit = {stage: _one_position_taken_from(found[stage].flip(0))}
            after = _patched(model, edit, tokens.repeat(T, 1), answers.repeat(T, 1))  # (2 T,)
            rows.append((whole - after.view(T, 2).sum(dim=1)) / (2 * whole))
    return torch.stack(rows).cpu()


def _require_pairs(model: LanguageModel, pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        if not len(pair.text):
            raise ConfigError("a text of a pair is empty; it takes at least one token")
        if len(pair.text) != len(pair.other_text):
            raise ConfigError(
                f"the texts of a pair have {len(pair.text)} and {len(pair.other_text)} tokens; they have to be equally long"
            )
        for answer in (pair.answer, pair.other_answer):
            if not 0 <= answer < len(model.unembedding):
                raise ConfigError(
                    f"there is no answer {answer}; this model's are 0 to {len(model.unembedding) - 1}: encode it with its own "
                    "tokenizer"
                )
    if all(torch.equal(pair.text, pair.other_text) or pair.answer == pair.other_answer for pair in pairs):
        what = "texts" if torch.equal(pairs[0].text, pairs[0].other_text) else "answers"
        raise ConfigError(f"the {what} of a pair have to differ, and both are the same here")


def _side_by_side(pair: Pair) -> tuple[Tensor, Tensor]:
    """Both texts (2, T), and of each its own answer and the other's, (2, 2)."""
    tokens = torch.stack((pair.text, pair.other_text))
    return tokens, torch.tensor(
        [[pair.answer, pair.other_answer], [pair.other_answer, pair.answer]], device=tokens.device
    )


def _preference(logits: Tensor, answers: Tensor) -> Tensor:
    """Nats by which each text prefers the first of its two `answers` (B, 2) to the second: last logits (B, V) -> (B,)."""
    chosen = logits.gather(1, answers)
    return chosen[:, 0] - chosen[:, 1]


def _patched(model: LanguageModel, edit: dict[str, Edit], tokens: Tensor, answers: Tensor) -> Tensor:
    """The preference (B,) with `edit`."""
    with edited(model, edit):
        return _preference(model.unembed(model.hidden(tokens)[:, -1]), answers)


def _each_part_exchanged(found: dict[str, Tensor], layer: int, H: int) -> dict[str, Edit]:
    """Of the pair H + 2 times below each other, (2 (H + 2), T), the first two rows exchange head 0 of this layer between them,
    the next two head 1, and so on, the last but two their attention and the last their MLP. All at once, since a pass over a
    few short texts takes hardly longer than one over two."""
    heads, attention, mlp = (found[f"block.{layer}.{part}"].flip(0) for part in ("heads", "attention", "mlp"))

    def edit_heads(activation: Tensor) -> Tensor:
        patched = activation.view(H + 2, 2, *activation.shape[1:])  # (H + 2, 2, H, T, D)
        patched[range(H), :, range(H)] = heads.transpose(0, 1)
        return activation

    def exchanged(group: int, other: Tensor) -> Edit:
        def edit(activation: Tensor) -> Tensor:
            activation[2 * group : 2 * group + 2] = other
            return activation

        return edit

    return {
        f"block.{layer}.heads": edit_heads,
        f"block.{layer}.attention": exchanged(H, attention),
        f"block.{layer}.mlp": exchanged(H + 1, mlp),
    }


def _one_position_taken_from(other: Tensor) -> Edit:
    """Of the pair T times below each other, (2 T, T, C), the first two rows take position 0 from `other` (2, T, C), the next
    two position 1, and so on."""
    T = other.shape[1]

    def edit(stream: Tensor) -> Tensor:
        rows = torch.arange(2 * T, device=stream.device)
        stream[rows, rows // 2] = other.transpose(0, 1).flatten(0, 1)
        return stream

    return edit
