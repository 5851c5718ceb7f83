"""Optimizers, and their state as named tensors: what a checkpoint holds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from glassgpt.config import TrainConfig
from glassgpt.errors import CheckpointError
from glassgpt.model import LanguageModel
from glassgpt.train.adamw import FUSED_ON, AdamW
from glassgpt.train.group import Group
from glassgpt.train.muon import Muon


class Optimizer(Protocol):
    @property
    def groups(self) -> list[Group]: ...

    @property
    def state(self) -> Mapping[Tensor, dict[str, Tensor]]:
        """What it remembers of each weight, by name."""

    def step(self) -> None:
        """Move the weights that have a gradient."""


class Optimizers:
    """Several, each with its part of a model, as one."""

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        self.groups = [group for part in parts for group in part.groups]
        self.state = {p: entries for part in parts for p, entries in part.state.items()}

    def step(self) -> None:
        for part in self.parts:
            part.step()


def build_adamw(model: LanguageModel, config: TrainConfig, precision: str) -> Optimizer:
    return adamw([p for p in model.parameters() if p.requires_grad], config)


def build_muon(model: LanguageModel, config: TrainConfig, precision: str) -> Optimizer:
    """Muon for the matrices in blocks, AdamW for the rest."""
    hidden = [p for p in model.blocks.parameters() if p.requires_grad and p.ndim == 2]
    in_hidden = set(hidden)
    rest = [p for p in model.parameters() if p.requires_grad and p not in in_hidden]
    return Optimizers(muon(hidden, config, precision), *([adamw(rest, config)] if rest else []))


OPTIMIZERS: dict[str, Callable[[LanguageModel, TrainConfig, str], Optimizer]] = {
    "adamw": build_adamw,
    "muon": build_muon,
}


def build_optimizer(model: LanguageModel, config: TrainConfig, precision: str = "float32") -> Optimizer:
    """For what learns of the model. `precision` is that of its matrix products."""
    return OPTIMIZERS[config.optimizer](model, config, precision)


def adamw(weights: Sequence[Tensor], config: TrainConfig) -> AdamW:
    """Decays matrices only: norms and biases are no weights to shrink."""
    groups = [
        Group([p for p in weights if p.ndim >= 2], config.learning_rate, config.weight_decay),
        Group([p for p in weights if p.ndim < 2], config.learning_rate),
    ]
    return AdamW(groups, beta1=config.beta1, beta2=config.beta2, fused=weights[0].device.type in FUSED_ON)


def muon(matrices: Sequence[Tensor], config: TrainConfig, precision: str) -> Muon:
    rate = config.matrix_learning_rate / config.learning_rate
    return Muon(
        Group(list(matrices), config.matrix_learning_rate, config.weight_decay, rate),
        momentum=config.momentum,
        dtype=torch.bfloat16 if precision == "bfloat16" else matrices[0].dtype,
    )


def optimizer_tensors(model: LanguageModel, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory as `PARAMETER/ENTRY` -> tensor, for instance `wte.weight/exp_avg`."""
    return {
        f"{name}/{entry}": value
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    model: LanguageModel, optimizer: Optimizer, tensors: Mapping[str, Tensor], source: str
) -> None:
    """Put back what `optimizer_tensors` gave. Raises CheckpointError where it does not fit the model, or is not all of it: a
    parameter whose moments are missing would start anew in silence."""
    places = optimizer_tensors(model, optimizer)
    for key, place in places.items():
        if key not in tensors:
            raise CheckpointError(f"{source} has no entry {key}; the checkpoint is not whole, use another one")
        value = tensors[key]
        if value.shape != place.shape:
            raise CheckpointError(
                f"{source}: {key} has shape {tuple(value.shape)}, this model asks for {tuple(place.shape)}"
            )
        if not value.is_floating_point() or value.element_size() == 1:
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{source}: {key} is of type {kind}, which no optimizer keeps")
    if surplus := tensors.keys() - places.keys():
        raise CheckpointError(f"{source} has an entry {min(surplus)}, which this model has no place for")
    for key, place in places.items():
        place.copy_(tensors[key])
