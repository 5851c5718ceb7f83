"""Optimizers, and their state as named tensors: what a checkpoint holds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from glassgpt.config import TrainConfig
from glassgpt.errors import CheckpointError
from glassgpt.model import LanguageModel
from glassgpt.train.muon import Muon


class Optimizer(Protocol):
    """What the loop needs of one. Each of its groups has its `lr`, and in `rate` how many times the schedule's that is."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    @property
    def state(self) -> Mapping[Tensor, dict[str, Any]]: ...

    def step(self) -> object: ...

    def zero_grad(self, set_to_none: bool = True) -> None: ...


class Optimizers:
    """Several, each with its part of a model, as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> Mapping[Tensor, dict[str, Any]]:
        return {p: entries for part in self.parts for p, entries in part.state.items()}

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)


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


def adamw(parameters: Sequence[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, 1711.05101) that decays matrices only: norms and biases are no weights to shrink."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay, "rate": 1.0},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0, "rate": 1.0},
    ]
    fused = parameters[0].device.type in ("cpu", "cuda")  # one kernel for all parameters instead of ten for each
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=fused,
    )
    # torch would make the moments in the first step. Made here, memory that is not there is missed before any work, and the
    # checkpoint of step 0 is as large as all that follow.
    for p in parameters:
        optimizer.state[p] = {
            "step": torch.zeros((), device=p.device if fused else None),
            "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
        }
    return optimizer


def muon(matrices: Sequence[Tensor], config: TrainConfig, precision: str) -> Muon:
    optimizer = Muon(
        matrices,
        lr=config.matrix_learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        dtype=torch.bfloat16 if precision == "bfloat16" else matrices[0].dtype,
    )
    optimizer.param_groups[0]["rate"] = config.matrix_learning_rate / config.learning_rate
    return optimizer


def optimizer_tensors(model: LanguageModel, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory as `PARAMETER/ENTRY` -> tensor, for instance `wte.weight/exp_avg`."""
    return {
        f"{name}/{entry}": torch.as_tensor(value)
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
