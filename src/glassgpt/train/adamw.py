"""AdamW: every weight moves along the mean of its gradients, measured in how large they usually are, and shrinks by a share
(Kingma & Ba 2015, 1412.6980; Loshchilov & Hutter 2019, 1711.05101).

Not torch's own: to make any optimizer of torch loads its compiler, which takes as long as loading torch.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from glassgpt.train.group import Group

EPS = 1e-8
FUSED_ON = ("cpu", "cuda")  # where torch has one kernel for all of it, for all weights at once


class AdamW:
    """The same bits as torch.optim.AdamW, fused where `fused`. Weights without a gradient stay as they are."""

    def __init__(self, groups: Sequence[Group], *, beta1: float, beta2: float, fused: bool) -> None:
        self.groups, self.beta1, self.beta2, self.fused = list(groups), beta1, beta2, fused
        # All of the memory now: what is not there is missed before any work, and the checkpoint of step 0 is as large as all
        # that follow.
        self.state = {
            p: {
                "step": torch.zeros((), device=p.device if fused else None),
                "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
            }
            for group in self.groups
            for p in group.weights
        }

    @torch.no_grad()
    def step(self) -> None:
        for group in self.groups:
            learning = [p for p in group.weights if p.grad is not None]
            if self.fused and learning:
                self._move_at_once(group, learning)
            else:
                for p in learning:
                    self._move(group, p)

    def _move(self, group: Group, p: Tensor) -> None:
        assert p.grad is not None
        step, mean, mean_square = self.state[p].values()
        step += 1
        p *= 1 - group.learning_rate * group.weight_decay
        mean.lerp_(p.grad, 1 - self.beta1)
        mean_square.mul_(self.beta2).addcmul_(p.grad, p.grad, value=1 - self.beta2)
        # Both means begin at zero. Divided by the share of them that is made of gradients by now, they are as large as they
        # should be.
        steps = step.item()
        scale = group.learning_rate / (1 - self.beta1**steps)
        usual_size = (mean_square.sqrt() / math.sqrt(1 - self.beta2**steps)).add_(EPS)
        p.addcdiv_(mean, usual_size, value=-scale)

    def _move_at_once(self, group: Group, learning: list[Tensor]) -> None:
        states = [self.state[p] for p in learning]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            learning, [p.grad for p in learning if p.grad is not None],
            [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states], [], steps,
            lr=group.learning_rate, beta1=self.beta1, beta2=self.beta2, weight_decay=group.weight_decay, eps=EPS,
            amsgrad=False, maximize=False,
        )  # fmt: skip
