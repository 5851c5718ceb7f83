"""Steps that must not be taken: a loss or gradient that is not finite never reaches a weight, and a loss that leaps up is
at least reported."""

import statistics
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glassgpt.config import TrainConfig
from glassgpt.data import Batch
from glassgpt.model import LanguageModel
from glassgpt.train.loss import chunked_loss
from glassgpt.train.step import StepResult, all_finite, autocast, seed_micro_step

# A spike stands out from the losses before it. Six standard deviations over the last 128 steps is what OLMo's trainer skips;
# the tenth keeps losses that hardly vary, as at the end of learning by heart, from being called restless.
WINDOW, FEWEST, DEVIATIONS, SHARE = 128, 32, 6.0, 0.1
MOST_IN_A_ROW = 10
SHOWN_NORMS = 16


class Watch:
    """Says of each step whether its update may happen. What it remembers of the steps before is part of a checkpoint.

    An update cannot itself carry a weight beyond all numbers: rate and decay have their limits (config/schema.py), and long
    before that the loss is not finite.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.on_nonfinite, self.on_spike = config.on_nonfinite, config.on_spike
        self.losses: deque[float] = deque(maxlen=WINDOW)  # of finite steps
        self.grad_norms: deque[float] = deque(maxlen=WINDOW)
        self.skipped_in_a_row = 0
        self.is_finite = True
        self.fault: str | None = None  # what is wrong with the step that was asked about last
        self.policy = ""  # and what happens because of it: report, skip, stop

    def allows(self, train_loss: float, grad_norm: float) -> bool:
        """Whether the weights may be moved by a step with this loss and this length of the gradient."""
        self.fault, self.policy = None, ""
        self.is_finite = all_finite(train_loss, grad_norm)
        if not self.is_finite:
            self.fault = f"the loss is {train_loss:.4g} and the gradient's length {grad_norm:.4g}"
            self.policy = self.on_nonfinite
        elif self._is_spike(train_loss):
            self.fault = f"the loss leaps to {train_loss:.4g}, after {statistics.fmean(self.losses):.4g} on average"
            self.policy = self.on_spike
        return self.policy in ("", "report")

    def add(self, result: StepResult) -> None:
        """Remember a step. A finite loss counts also where it was skipped: what has come to stay is no spike."""
        if all_finite(result.train_loss, result.grad_norm):
            self.losses.append(result.train_loss)
            self.grad_norms.append(result.grad_norm)
        self.skipped_in_a_row = 0 if result.applied else self.skipped_in_a_row + 1

    @property
    def gives_up(self) -> bool:
        return self.policy == "stop" or self.skipped_in_a_row >= MOST_IN_A_ROW

    def _is_spike(self, train_loss: float) -> bool:
        if len(self.losses) < FEWEST:
            return False
        mean = statistics.fmean(self.losses)
        return train_loss > mean + max(DEVIATIONS * statistics.pstdev(self.losses, mean), SHARE * mean)

    def how_often(self) -> str:
        return f"; {self.skipped_in_a_row} such steps in a row" if self.skipped_in_a_row > 1 else ""

    def diagnosis(self, first_not_finite: Callable[[], str]) -> dict[str, Any]:
        """Of the step that was asked about last, for metrics.jsonl; nothing is searched for after a mere spike."""
        found = {"fault": self.fault, "grad_norms_before": list(self.grad_norms)[-SHOWN_NORMS:]}
        return found | ({} if self.is_finite else {"first_not_finite": first_not_finite()})

    def state(self) -> dict[str, Any]:
        return {
            "losses": list(self.losses),
            "grad_norms": list(self.grad_norms),
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.losses.extend(state["losses"])
        self.grad_norms.extend(state["grad_norms"])
        self.skipped_in_a_row = state["skipped_in_a_row"]


def more_slowly(config: TrainConfig) -> str:
    """The flags of a run that goes on with lower rates."""
    flags = f"--learning-rate {min(config.learning_rate / 3, 1e-3):.1g}"
    if config.optimizer == "muon":
        flags += f" --matrix-learning-rate {min(config.matrix_learning_rate / 3, 0.02):.1g}"
    return flags


def in_words(diagnosis: Mapping[str, Any], applied: bool) -> str:
    """A diagnosis in one line."""
    line = f"{diagnosis['fault']}, {'and the update was made' if applied else 'so nothing was changed'}"
    line += f"; learning rate {diagnosis['learning_rate']:.3g}"
    return line + (f"; first not finite: {diagnosis['first_not_finite']}" if "first_not_finite" in diagnosis else "")


def first_not_finite(
    model: LanguageModel, batch: Batch, *, step: int, config: TrainConfig, precision: str, rank: int = 0
) -> str:
    """In words, where in the model a number first was not finite, in the forward of update `step` on `batch` (B, T) or, if
    that is whole, in the gradients that are still there."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"the weight {name}"
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            tensors = output if isinstance(output, tuple) else (output,)
            if not found and any(isinstance(t, Tensor) and not t.isfinite().all() for t in tensors):
                found.append(f"what {name} gives")

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad(), autocast(batch.tokens.device, precision):
            for micro_step, start in enumerate(range(0, len(batch.tokens), config.micro_batch_size)):
                rows = slice(start, start + config.micro_batch_size)
                seed_micro_step(config.seed, step, micro_step, rank, batch.tokens.device)
                if not chunked_loss(model, Batch(batch.tokens[rows], batch.targets[rows])).isfinite():
                    return found[0] if found else "the logits"
    finally:
        for hook in hooks:
            hook.remove()
    # Backward goes from the end to the beginning, so the last of them is where it began.
    broken = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return f"the gradient of {broken[-1]}" if broken else "the length of the gradient alone"
