"""Activations by name, looked at or replaced while the model computes; the model itself is left as it was.

    embedding            (B, T, C)     what goes into the first block: the residual stream at its beginning
    embedding.token      (B, T, C)     of a model with n-gram embeddings: what each token adds to it by itself
    embedding.2-gram     (B, T, C)     and what the group of two tokens does that ends there; and so on to the longest
    block.3              (B, T, C)     the residual stream after block 3 (blocks are counted from 0)
    block.3.attention    (B, T, C)     what attention adds to it
    block.3.mlp          (B, T, C)     what the MLP adds to it
    block.3.weights      (B, H, T, S)  attention weights: how much each position takes from each
    block.3.heads        (B, H, T, D)  what each head has gathered, before the projection into the stream
    block.3.neurons      (B, T, F)     the MLP's hidden layer, after its nonlinearity
    hidden               (B, T, C)     what the last norm gives

Everything else has the name of its module, as in `model.named_modules()`: `h.3.ln_1`, `model.layers.0.self_attn.q_norm`.

Shapes: B batch, T positions in this call, S positions attended to, C n_embd, H n_head, D head_dim, F mlp width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from glassgpt.config.names import suggestion
from glassgpt.errors import ConfigError
from glassgpt.inspection.watch import Edit, forward_replaced, groups_edited, weights_edited, within_an_edit
from glassgpt.model import LanguageModel
from glassgpt.model.ngram import NgramEmbedding
from glassgpt.train.recompute import nothing_recomputed

M = TypeVar("M", bound=nn.Module)

# What GPT-2 and Qwen3 call the parts of a block, and the last matrix of attention and of the MLP.
ATTENTION, MLP = ("attn", "self_attn"), ("mlp",)
LAST_OF_ATTENTION, LAST_OF_MLP = ("c_proj", "o_proj"), ("c_proj", "down_proj")


def activation_names(model: LanguageModel) -> list[str]:
    """All that `capture` knows of this model, in the order of the computation, modules last."""
    blocks = [
        f"block.{i}{part}"
        for i in range(len(model.blocks))
        for part in (".weights", ".heads", ".attention", ".neurons", ".mlp", "")
    ]
    return [*embedding_parts(model), "embedding", *blocks, "hidden", *_modules(model)]


def embedding_parts(model: LanguageModel) -> list[str]:
    """The names of what adds up to the embedding; none, where nothing in it is told apart."""
    if model.config.architecture != "ngram":
        return []
    return ["embedding.token", *(f"embedding.{n}-gram" for n in range(2, model.config.n_gram + 1))]


def _modules(model: LanguageModel) -> list[str]:
    """Those that are called: neither lists of modules, nor the body of a classifier, nor the output matrix, which is used
    without its module."""
    return [
        name
        for name, module in model.named_modules()
        if name not in ("", "lm_head") and not isinstance(module, (nn.ModuleList, LanguageModel))
    ]


def capture(
    model: LanguageModel, tokens: Tensor, names: Sequence[str], edits: Mapping[str, Edit] | None = None
) -> dict[str, Tensor]:
    """What the model computes on its way from `tokens` (B, T) to logits (B, T, V), by name; "logits" is always among it.

    A name may stand for many: "block.*.weights". With `edits`, activations are replaced on the way (see `edited`), and seen
    after that. Gradients are followed where they are enabled, and through weights and n-grams where an edit replaces these,
    be it by `torch.clone`. In training mode dropout drops, and where the architecture drops what attention and the MLP give
    (modern and n-gram models), these are seen before that. Raises ConfigError for a name that there is not, for an edit that
    returns something else than a tensor like the one it was given, and for tokens that are none of this model's.
    """
    require_tokens(model, tokens)
    found: dict[str, Tensor] = {}

    asked = [names] if isinstance(names, str) else names
    wanted = matching(model, [name for name in asked if name != "logits"])
    with edited(model, edits or {}), seen(model, {name: partial(found.__setitem__, name) for name in wanted}):
        logits = model(tokens)
    return {name: found[name] for name in wanted} | {"logits": logits}


def require_tokens(model: LanguageModel, tokens: Tensor) -> None:
    """Raises ConfigError where they are no (B, T) of this model's ids."""
    if not isinstance(tokens, Tensor) or tokens.dim() != 2 or not tokens.numel():
        raise ConfigError("tokens have to be a tensor (B, T) of at least one, such as engine.encode_prompt(text)")
    if tokens.dtype != torch.int64:
        raise ConfigError(f"tokens are {tokens.dtype}, and have to be ids, torch.int64: use tokens.long()")
    for id in (int(tokens.min()), int(tokens.max())):
        if not 0 <= id < model.config.vocab_size:
            raise ConfigError(
                f"there is no token {id}; the model's are 0 to {model.config.vocab_size - 1}: encode the text with its own "
                "tokenizer"
            )


def require_one_text(model: LanguageModel, tokens: Tensor) -> None:
    """Raises ConfigError where they are no (1, T) of this model's ids."""
    require_tokens(model, tokens)
    if len(tokens) > 1:
        raise ConfigError(f"tokens are {tuple(tokens.shape)}, and have to be of one text, (1, T): give one row of them")


def matching(model: LanguageModel, names: Sequence[str]) -> list[str]:
    known = activation_names(model)
    for name in names:
        if not any(fnmatchcase(one, name) for one in known):
            raise ConfigError(f"{name!r} is no activation of this model{suggestion(name, dict.fromkeys(known, ''))}")
    return [one for one in known if any(fnmatchcase(one, name) for name in names)]


@contextmanager
def edited(model: LanguageModel, edits: Mapping[str, Edit]) -> Iterator[None]:
    """While this lasts, each activation that is named is replaced by what its function makes of it. The function is given a
    copy, which it may write to; where it returns that as it was, it changes nothing, not even a bit. A name may stand for
    many, as in `capture`. Gradient checkpointing is off meanwhile; the backward of an earlier forward belongs before this.
    Raises ConfigError for a name that there is not, and where a function returns something else than a tensor of the shape,
    the dtype and on the device that it was given."""
    with ExitStack() as stack:
        if edits:
            stack.enter_context(nothing_recomputed(model))
        for name, edit in edits.items():
            for one in matching(model, [name]):
                stack.enter_context(_attached(model, one, _on_a_copy(one, edit)))
        yield


@contextmanager
def seen(model: LanguageModel, sights: Mapping[str, Callable[[Tensor], object]]) -> Iterator[None]:
    """While this lasts, each activation that is named is shown to its function, which must not write to it."""

    def handed_on(sight: Callable[[Tensor], object], activation: Tensor) -> Tensor:
        sight(activation)
        return activation

    with ExitStack() as stack:
        if sights:
            stack.enter_context(nothing_recomputed(model))
        for name, sight in sights.items():
            stack.enter_context(_attached(model, name, partial(handed_on, sight)))
        yield


def _on_a_copy(name: str, edit: Edit) -> Edit:
    def on_a_copy(activation: Tensor) -> Tensor:
        given = activation.clone()
        with within_an_edit():
            changed = edit(given)
        if not isinstance(changed, Tensor) or _kind(changed) != _kind(activation):
            returned = _kind(changed) if isinstance(changed, Tensor) else type(changed).__name__
            alike = isinstance(changed, Tensor) and changed.shape == activation.shape
            hint = ": end it with .to(a), where a is what it is given" if alike else ""
            raise ConfigError(f"the edit of {name} returned {returned}; it has to return {_kind(activation)}{hint}")
        return activation if changed is given and torch.equal(_bits(given), _bits(activation)) else changed

    return on_a_copy


def _kind(tensor: Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"a tensor {tuple(tensor.shape)} of {dtype} on {tensor.device}"


def _bits(activation: Tensor) -> Tensor:
    """As integers: of these, what is no number equals itself too."""
    return activation.detach().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[activation.element_size()])


@contextmanager
def evaluated(model: LanguageModel) -> Iterator[None]:
    """While this lasts, no dropout: each module is in evaluation mode, and afterwards in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def begun_at(model: LanguageModel, block: int, stream: Tensor) -> Iterator[None]:
    """While this lasts, the blocks before this one compute nothing, and `stream` (B, T, C) goes into it: for many forwards
    that differ only from there on."""
    with ExitStack() as stack:
        for one in model.blocks[:block]:
            stack.enter_context(forward_replaced(one, lambda x, *rest: x))
        stack.enter_context(model.blocks[block].register_forward_pre_hook(_on_input(lambda x: stream)))
        yield


def _attached(model: LanguageModel, name: str, edit: Edit) -> AbstractContextManager[object]:
    blocks = model.blocks
    if name == "embedding":
        return blocks[0].register_forward_pre_hook(_on_input(edit))
    if name in embedding_parts(model):
        part = name.removeprefix("embedding.")
        if part == "token":
            return _only(model, nn.Embedding).register_forward_hook(_on_output(edit))
        return groups_edited(_only(model, NgramEmbedding), int(part.removesuffix("-gram")) - 2, edit)
    if name == "hidden":
        return model.final_norm.register_forward_hook(_on_output(edit))
    first, *rest = name.split(".")
    if first != "block":
        return model.get_submodule(name).register_forward_hook(_on_output(edit))
    block, part = blocks[int(rest[0])], ".".join(rest[1:])
    if not part:
        return block.register_forward_hook(_on_output(edit))
    attention, mlp = child_of(block, ATTENTION), child_of(block, MLP)
    match part:
        case "attention":
            return attention.register_forward_hook(_on_output(edit))
        case "heads":
            return last_of_attention(block).register_forward_pre_hook(_on_heads(edit, model.config.n_head))
        case "weights":
            return weights_edited(attention, edit)
        case "mlp":
            return mlp.register_forward_hook(_on_output(edit))
        case _:
            return last_of_mlp(block).register_forward_pre_hook(_on_input(edit))


def _only(model: nn.Module, kind: type[M]) -> M:
    (module,) = [module for module in model.modules() if isinstance(module, kind)]
    return module


def child_of(module: nn.Module, names: Sequence[str]) -> nn.Module:
    (child,) = [child for name, child in module.named_children() if name in names]
    return child


def require_layer(model: LanguageModel, layer: int) -> None:
    if not 0 <= layer < len(model.blocks):
        raise ConfigError(f"there is no layer {layer}; the model's are 0 to {len(model.blocks) - 1}")


def last_of_attention(block: nn.Module) -> nn.Linear:
    last = child_of(child_of(block, ATTENTION), LAST_OF_ATTENTION)
    assert isinstance(last, nn.Linear)
    return last


def last_of_mlp(block: nn.Module) -> nn.Linear:
    last = child_of(child_of(block, MLP), LAST_OF_MLP)
    assert isinstance(last, nn.Linear)
    return last


def _on_output(edit: Edit) -> Callable[..., Tensor]:
    return lambda module, inputs, output: edit(output)


def _on_input(edit: Edit) -> Callable[..., tuple[Any, ...]]:
    return lambda module, inputs: (edit(inputs[0]), *inputs[1:])


def _on_heads(edit: Edit, n_head: int) -> Callable[..., tuple[Tensor]]:
    def hook(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (merged,) = inputs  # (B, T, H D)
        B, T, _ = merged.shape
        heads = edit(merged.view(B, T, n_head, -1).transpose(1, 2))  # (B, H, T, D)
        return (heads.transpose(1, 2).flatten(2),)

    return hook
