"""How many processes share one run, as far as the loop has to know. One device is the default."""

from typing import Protocol

from torch import nn


class Parallel(Protocol):
    rank: int
    world_size: int

    def prepare(self, model: nn.Module) -> nn.Module:
        """The module that forward and backward run through."""
        ...


class SingleDevice:
    rank, world_size = 0, 1

    def prepare(self, model: nn.Module) -> nn.Module:
        return model
