"""One optimizer update: forward and backward over the micro batches, then a checked step."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glassgpt.config import TrainConfig
from glassgpt.data import Batch
from glassgpt.errors import GlassError
from glassgpt.train.loss import count_targets

Loss = Callable[[nn.Module, Batch], Tensor]


class StepResult(NamedTuple):
    train_loss: float  # nats a token, mean over the batch, before the update
    grad_norm: float  # length of the gradient before clipping


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Matrix products in bfloat16 where that was decided; weights, norms and the loss stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def seed_micro_step(seed: int, step: int, micro_step: int, rank: int) -> None:
    """Dropout is keyed by where the run is, not by what was drawn before: a resumed run draws the same masks."""
    key = seed
    for part in (step, micro_step, rank):
        key = (
            key * 6364136223846793005 + part + 1442695040888963407
        ) % 2**63  # Knuth's linear congruence, to mix the parts
    torch.manual_seed(key)


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    step: int,
    learning_rate: float,
    config: TrainConfig,
    precision: str,
    loss: Loss,
    rank: int = 0,
) -> StepResult:
    """Move the weights once. `batch` (B, T) is this rank's share of update `step`.

    The loss is a mean over all targets of the batch, so splitting it into micro batches changes nothing but rounding.
    Raises GlassError before the weights are touched if the loss or the gradient is not finite.
    """
    device = batch.tokens.device
    targets = count_targets(batch)
    means = []
    for micro_step, start in enumerate(range(0, len(batch.tokens), config.micro_batch_size)):
        rows = slice(start, start + config.micro_batch_size)
        seed_micro_step(config.seed, step, micro_step, rank)
        with autocast(device, precision):
            mean = loss(model, Batch(batch.tokens[rows], batch.targets[rows])) / targets
        mean.backward()  # type: ignore[no-untyped-call]
        means.append(mean.detach())
    total = torch.stack(means).sum()
    limit = config.grad_clip or float("inf")
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    result = StepResult(total.item(), norm.item())
    if not all(map(torch.isfinite, (total, norm))):
        optimizer.zero_grad(set_to_none=True)
        raise GlassError(
            f"step {step + 1}: the loss is {result.train_loss:.4g} and the gradient's length {result.grad_norm:.4g}, so "
            f"nothing was changed; the learning rate is {learning_rate:.3g}: lower learning_rate"
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return result
