"""The shape of a model: from another program's settings, or read off the tensors of a file that has none."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.config.schema import check_value
from glassgpt.errors import CheckpointError, ConfigError


def read_settings(**values: Any) -> GPTConfig:
    """A model's shape from a file's values, whose types nobody has checked. Raises ConfigError where one cannot be."""
    return GPTConfig(**{name: check_value(name, value, "setting") for name, value in values.items()})


def tensors_in(content: Any, source: str, what: str) -> dict[str, Tensor]:
    """The tensors of a state dict; numbers and texts that stand beside them carry no weights."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{source}: its {what} is no dict of tensors")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def shape_of(tensors: Mapping[str, Tensor], name: str, source: str) -> tuple[int, ...]:
    """Of a matrix that every such file has."""
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 2:
        what = "lacks the tensor" if tensor is None else "has no matrix under the name"
        raise CheckpointError(f"{source} {what} {name}, from which its shape would be known")
    return tuple(tensor.shape)


def blocks_in(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Transformer blocks; a missing one in between is noticed when its tensors are taken."""
    numbers = (int(match[1]) for name in tensors if (match := re.match(pattern, name)) and len(match[1]) < 9)
    return 1 + max(numbers, default=-1)


def require_heads(n_head: int | None, source: str) -> int:
    if n_head is None:
        raise ConfigError(f"{source} does not say how many attention heads its model has; add --n-head")
    return n_head
