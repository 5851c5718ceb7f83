"""One optimizer update: forward and backward over the micro batches, then a checked step."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glassgpt.config import TrainConfig
from glassgpt.data import Batch
from glassgpt.train.loss import count_targets
from glassgpt.train.optimizer import Optimizer
from glassgpt.train.replicas import Replicas

Loss = Callable[[nn.Module, Batch], Tensor]


class StepResult(NamedTuple):
    train_loss: float  # nats a token, mean over the batch, before the update
    grad_norm: float  # length of the gradient before clipping
    applied: bool  # whether the weights were moved


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Matrix products in bfloat16 where that was decided; weights, norms and the loss stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def seed_micro_step(seed: int, step: int, micro_step: int, rank: int, device: torch.device) -> None:
    """Dropout is keyed by where the run is, not by what was drawn before: a resumed run draws the same masks."""
    key = seed
    for part in (step, micro_step, rank):
        key = (
            key * 6364136223846793005 + part + 1442695040888963407
        ) % 2**63  # Knuth's linear congruence, to mix the parts
    if device.type == "cpu":
        torch.default_generator.manual_seed(key)
    else:  # this takes longer than a small layer: of every kind of device that is not there it notes who asked for it
        torch.manual_seed(key)


def all_finite(train_loss: float, grad_norm: float) -> bool:
    return math.isfinite(train_loss) and math.isfinite(grad_norm)


def forget_gradients(weights: Iterable[Tensor]) -> None:
    for p in weights:
        p.grad = None


def update(
    model: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    *,
    step: int,
    learning_rate: float,
    config: TrainConfig,
    precision: str,
    loss: Loss,
    rank: int = 0,
    replicas: Replicas | None = None,
    allows: Callable[[float, float], bool] = all_finite,
) -> StepResult:
    """Move the weights once. `batch` (B, T) is this rank's share of update `step`.

    The loss is a mean over all targets of the batch, so splitting it into micro batches changes nothing but rounding.
    `replicas` of the model take as many micro batches at a time. Unless `allows` says yes to the loss and the gradient's
    length, nothing is changed, and the gradients stay to be looked at.
    """
    replicas = replicas or Replicas(model)
    replicas.forget_gradients()
    device = batch.tokens.device
    targets = count_targets(batch)

    def forward_and_backward(model: nn.Module, micro_step: int) -> Tensor:
        rows = slice(micro_step * config.micro_batch_size, (micro_step + 1) * config.micro_batch_size)
        seed_micro_step(config.seed, step, micro_step, rank, device)
        with autocast(device, precision):
            mean = loss(model, Batch(batch.tokens[rows], batch.targets[rows])) / targets
        mean.backward()  # type: ignore[no-untyped-call]
        return mean.detach()

    means = []
    micro_steps = range(math.ceil(len(batch.tokens) / config.micro_batch_size))
    for first in micro_steps[:: replicas.count]:
        means += replicas.at_once(forward_and_backward, micro_steps[first : first + replicas.count])
        replicas.add_gradients()
    weights = list(model.parameters())
    learning = [p for p in weights if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
    train_loss, grad_norm = torch.stack(means).sum().item(), norm.item()
    if not allows(train_loss, grad_norm):
        return StepResult(train_loss, grad_norm, applied=False)
    if config.grad_clip and grad_norm > config.grad_clip:
        nn.utils.clip_grads_with_norm_(learning, config.grad_clip, norm)
    for group in optimizer.groups:
        group.learning_rate = learning_rate * group.rate
    optimizer.step()
    forget_gradients(weights)
    return StepResult(train_loss, grad_norm, applied=True)
