"""Edits of what no module gives out, since one call inside it computes more than that: attention weights, and the embedding of
each group of tokens.

Shapes: B batch, T positions in this call, C n_embd.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glassgpt.model.attention import attention_weights, for_each_query_head
from glassgpt.model.ngram import NgramEmbedding

Edit = Callable[[Tensor], Tensor]


def weights_edited(attention: nn.Module, edit: Edit) -> AbstractContextManager[None]:
    """They are no module's output, and the fused kernel never writes them."""

    def gathered(weights: Tensor, q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, **_: Any) -> Tensor:
        return F.dropout(weights, dropout_p) @ for_each_query_head(v, q.shape[1])

    def spelled_out(q: Tensor, k: Tensor, *_: Any, **__: Any) -> Tensor:
        return attention_weights(q, k)

    watch = _Watch(edit, F.scaled_dot_product_attention, Tensor.softmax, spelled_out, gathered)
    return _watched(attention, lambda inputs: watch)


def groups_edited(embedding: NgramEmbedding, group: int, edit: Edit) -> AbstractContextManager[None]:
    """All groups that end at a position are added up as they are looked up."""

    def watch_of(inputs: tuple[Tensor, Tensor]) -> _Watch:
        B, T = inputs[0].shape

        def edit_group(shares: Tensor) -> Tensor:  # (B T, groups, C)
            share = shares[:, group].view(B, T, -1)
            changed = edit(share)
            if changed is share:  # in its place, if at all
                return shares
            kept = list(shares.unbind(1))
            kept[group] = changed.flatten(0, 1)
            return torch.stack(kept, dim=1)

        def added_up(shares: Tensor, *_: Any, **__: Any) -> Tensor:
            return shares.sum(dim=1)

        def looked_up(rows: Tensor, weight: Tensor, **_: Any) -> Tensor:
            return F.embedding(rows, weight)

        return _Watch(edit_group, F.embedding_bag, F.embedding, looked_up, added_up)

    return _watched(embedding, watch_of)


@contextmanager
def _watched(module: nn.Module, watch_of: Callable[[Any], "_Watch"]) -> Iterator[None]:
    """While this lasts, the calls inside each call of `module` are watched."""
    watching: list[_Watch] = []

    def begin(_: nn.Module, inputs: Any) -> None:
        watching.append(watch_of(inputs))
        watching[-1].__enter__()  # type: ignore[no-untyped-call]

    def end(*_: object) -> None:
        watching.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    try:
        with module.register_forward_pre_hook(begin), module.register_forward_hook(end, always_call=True):
            yield
    finally:
        while watching:  # torch calls no hook after Ctrl-C
            end()


class _Watch(TorchFunctionMode):
    """Lets an edit at what a fused function computes on its way: `fused` is spelled out in two halves, of which the first
    calls `plain` in the end, so that it passes by the watches that were there before this one."""

    def __init__(
        self,
        edit: Edit,
        fused: Callable[..., Tensor],
        plain: Callable[..., Tensor],
        first_half: Callable[..., Tensor],
        second_half: Callable[..., Tensor],
    ) -> None:
        super().__init__()
        self.edit, self.fused, self.plain = edit, fused, plain
        self.first_half, self.second_half = first_half, second_half

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        result = function(*args, **named)
        if function is self.plain:
            return self.edit(result)
        if function is self.fused:
            between = self.first_half(*args, **named)
            given = between.clone()
            changed = self.edit(given)
            if changed is not given or not torch.equal(given, between):
                return self.second_half(changed, *args, **named)
        return result
