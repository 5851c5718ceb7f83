"""Weights that an optimizer moves alike."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Group:
    """`rate`: how many times the schedule's learning rate its own is, set before every step."""

    weights: list[Tensor]
    learning_rate: float
    weight_decay: float = 0.0
    rate: float = 1.0
