"""Edits of what no module gives out, since one call inside it computes more than that: attention weights, and the embedding of
each group of tokens.

While there are such edits of a module, another `forward` stands in for its own, one for all of them, so that each runs once.
It spells out what they are of, and leaves the rest to the module's own where they change nothing.

Shapes: B batch, T positions in this call, S positions attended to, C n_embd, H n_head, D head_dim.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glassgpt.model.attention import attention_weights, for_each_query_head
from glassgpt.model.ngram import NgramEmbedding

Edit = Callable[[Tensor], Tensor]  # gives back its argument itself where it changes nothing

# What somebody's edit computes is no part of the model, although it runs in the middle of it.
_within_an_edit: ContextVar[bool] = ContextVar("within_an_edit", default=False)


@contextmanager
def within_an_edit() -> Iterator[None]:
    token = _within_an_edit.set(True)
    try:
        yield
    finally:
        _within_an_edit.reset(token)


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    before = vars(module).get("forward")  # gradient checkpointing puts one there
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


@contextmanager
def weights_edited(attention: nn.Module, edit: Edit) -> Iterator[None]:
    """They are no module's output, and the fused kernel never writes them."""
    with _standing_in(attention, _AttentionByWeights, edit):
        yield


@contextmanager
def groups_edited(embedding: NgramEmbedding, group: int, edit: Edit) -> Iterator[None]:
    """All groups that end at a position are added up as they are looked up."""

    def edit_group(shares: Sequence[Tensor]) -> Sequence[Tensor]:  # (B, T, C) of each group
        changed = edit(shares[group])
        return shares if changed is shares[group] else [*shares[:group], changed, *shares[group + 1 :]]

    with _standing_in(embedding, _EmbeddingByGroup, edit_group):
        yield


class _StandIn:
    """The forward of `module`, with edits of what it computes on its way."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.forward: Callable[..., Tensor] = module.forward
        self.edits: list[Callable[[Any], Any]] = []

    def edited(self, computed: Any) -> Any:
        for edit in self.edits:
            computed = edit(computed)
        return computed

    def __call__(self, *args: Any) -> Tensor:
        raise NotImplementedError


@contextmanager
def _standing_in(module: nn.Module, kind: type[_StandIn], edit: Callable[[Any], Any]) -> Iterator[None]:
    stand_in = vars(module).get("forward")
    if not isinstance(stand_in, kind):
        with forward_replaced(module, kind(module)), _standing_in(module, kind, edit):
            yield
        return
    stand_in.edits.append(edit)
    try:
        yield
    finally:
        stand_in.edits.remove(edit)


class _EmbeddingByGroup(_StandIn):
    def __call__(self, tokens: Tensor, before: Tensor) -> Tensor:
        assert isinstance(self.module, NgramEmbedding)
        shares = F.embedding(self.module.rows_of(tokens, before), self.module.weight).unbind(
            2
        )  # (B, T, C) of each group
        changed = self.edited(shares)
        return self.forward(tokens, before) if changed is shares else torch.stack(changed, dim=2).sum(dim=2)


class _AttentionByWeights(_StandIn):
    def __call__(self, *args: Any) -> Tensor:
        with _Watch(self.edited):
            return self.forward(*args)


class _Watch(TorchFunctionMode):
    """Sees the one call in an attention that turns scores into weights, or queries, keys and values into what is gathered."""

    def __init__(self, edited: Edit) -> None:
        super().__init__()
        self.edited = edited

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if not _within_an_edit.get():
            if function is Tensor.softmax:
                return self.edited(function(*args, **named))
            if function is F.scaled_dot_product_attention:
                return self._attend(*args, **named)
        return function(*args, **named)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, **named: Any) -> Tensor:
        weights = attention_weights(q, k)  # (B, H, T, S)
        changed = self.edited(weights)
        if changed is weights:
            gathered: Tensor = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, **named)
            return gathered
        return F.dropout(changed, dropout_p) @ for_each_query_head(v, q.shape[1])
