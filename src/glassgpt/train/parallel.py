"""How many processes share one run, as far as the loop has to know. One device is the default."""

from typing import Protocol

from torch import Tensor, nn


class Parallel(Protocol):
    rank: int
    world_size: int
    is_main: bool

    def prepare(self, model: nn.Module) -> nn.Module:
        """The module that forward and backward run through."""
        ...

    def sum(self, value: Tensor) -> Tensor:
        """`value` added up over all ranks."""
        ...


class SingleDevice:
    rank, world_size, is_main = 0, 1, True

    def prepare(self, model: nn.Module) -> nn.Module:
        return model

    def sum(self, value: Tensor) -> Tensor:
        return value
