"""Where each of our tensors lies in another program's file: one table for both directions."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.errors import CheckpointError, ConfigError
from glassgpt.model import ARCHITECTURES


class Place(NamedTuple):
    """The tensor of this name, or several that are ours when laid on top of each other along their outputs."""

    names: tuple[str, ...]
    transposed: bool = False  # (in, out) in the file, (out, in) here


MOST_LAYERS = 10_000  # each costs a module here, even where a file only pretends to have so many
Layout = dict[str, Place]  # our name -> its place


def parameter_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the model, without allocating any. Raises ConfigError where none can be so large."""
    if config.n_layer > MOST_LAYERS:
        raise ConfigError(f"n_layer is {config.n_layer}; no model has more than {MOST_LAYERS:,} layers")
    try:
        with torch.device("meta"):
            model = ARCHITECTURES[config.architecture](config)
    except RuntimeError:  # more bytes than can be counted
        raise ConfigError(
            f"vocab_size {config.vocab_size}, context_length {config.context_length} and n_embd {config.n_embd} make tensors "
            "that no machine can hold"
        ) from None
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def require_layers(config: GPTConfig, tensors: Mapping[str, Tensor], source: str) -> None:
    """That a file has at least one tensor a layer, before each layer that it only pretends to have costs time and memory."""
    if config.n_layer > len(tensors):
        raise CheckpointError(
            f"{source} lacks tensors: it has {len(tensors)}, too few for the {config.n_layer:,} layers "
            "that its config asks for"
        )


def take(
    tensors: Mapping[str, Tensor],
    layout: Layout,
    config: GPTConfig,
    source: str,
    is_ignored: Callable[[str, tuple[int, ...], GPTConfig], bool] = lambda name, shape, config: False,
) -> dict[str, Tensor]:
    """Their tensors as ours. Raises CheckpointError, in their names, where one is missing, unknown or of another shape.

    `is_ignored` knows the names of what carries no weights, such as a stored causal mask.
    """
    weights, used = {}, set()
    for ours, shape in parameter_shapes(config).items():
        place = layout[ours]
        part = (shape[0] // len(place.names), *shape[1:])
        expected = part[::-1] if place.transposed else part
        pieces = []
        for name in place.names:
            if name not in tensors:
                raise CheckpointError(
                    f"{source} lacks the tensor {name} of shape {expected}, which its config asks for"
                )
            if tuple(tensors[name].shape) != expected:
                raise CheckpointError(
                    f"{source}: tensor {name} has shape {tuple(tensors[name].shape)}, its config asks for {expected}"
                )
            if not tensors[name].is_floating_point() or tensors[name].element_size() == 1:
                kind = str(tensors[name].dtype).removeprefix("torch.")
                raise CheckpointError(f"{source}: tensor {name} is of type {kind}; weights have to be float16 or wider")
            pieces.append(tensors[name].T if place.transposed else tensors[name])
            used.add(name)
        weights[ours] = (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).contiguous()
    unused = tensors.keys() - used
    surplus = sorted(name for name in unused if not is_ignored(name, tuple(tensors[name].shape), config))
    if surplus:
        shape = tuple(tensors[surplus[0]].shape)
        raise CheckpointError(
            f"{source} has a tensor {surplus[0]} of shape {shape} that its config has no place for"
            + (f", and {len(surplus) - 1} more" if len(surplus) > 1 else "")
        )
    return weights


def give(weights: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Our tensors as theirs: `take` of the result gives the same bits back."""
    tensors = {}
    for ours, weight in weights.items():
        place = layout[ours]
        for name, piece in zip(place.names, weight.chunk(len(place.names)), strict=True):
            tensors[name] = (piece.T if place.transposed else piece).contiguous()
    return tensors
