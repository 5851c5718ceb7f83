"""Muon: a hidden matrix moves along its momentum made orthogonal, so that all its directions learn at one pace, and not only
the few that a gradient is mostly made of (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""

import math

import torch
from torch import Tensor

from glassgpt.train.group import Group

# The quintic a x + b x^3 + c x^5, applied five times, takes every singular value to somewhere near 1: steepest at zero, since
# the smallest ones have the longest way, and not exact, which does no harm.
A, B, C, ITERATIONS = 3.4445, -4.7750, 2.0315, 5
SMALLEST_NORM = 1e-7


def orthogonalized(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, rows, columns) -> the same in `dtype`, of each matrix U S V^T about U V^T: Newton-Schulz iterations, all of the
    matrices side by side."""
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT  # so that x x^T is the smaller product
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=SMALLEST_NORM)  # no singular value is above 1
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.mT if tall else x


class Muon:
    """For matrices (outputs, inputs) and nothing else. With `dtype` bfloat16 the same bits as torch.optim.Muon, which takes
    them one at a time. Every matrix needs its gradient at every step.

    The bits were compared on CPUs."""

    def __init__(self, group: Group, *, momentum: float, dtype: torch.dtype) -> None:
        self.groups, self.momentum, self.dtype = [group], momentum, dtype
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for p in group.weights:
            by_shape.setdefault(p.shape, []).append(p)
        # Matrices of one shape, and the momentum of all of them in one tensor, of which each one's state is a part.
        self.stacks = [(matrices, torch.zeros_like(torch.stack(matrices).detach())) for matrices in by_shape.values()]
        self.state = {
            p: {"momentum_buffer": its_own}
            for matrices, momenta in self.stacks
            for p, its_own in zip(matrices, momenta, strict=True)
        }

    @torch.no_grad()
    def step(self) -> None:
        (group,) = self.groups
        for matrices, momenta in self.stacks:
            given = [p.grad for p in matrices if p.grad is not None]
            assert len(given) == len(matrices), "a matrix in the model took no part in the loss"
            gradients = torch.stack(given)
            momenta.lerp_(gradients, 1 - self.momentum)
            update = orthogonalized(gradients.lerp_(momenta, self.momentum), self.dtype)  # looks ahead (Nesterov)
            rows, columns = matrices[0].shape
            torch._foreach_mul_(matrices, 1 - group.learning_rate * group.weight_decay)
            scale = math.sqrt(max(1, rows / columns))
            torch._foreach_add_(matrices, update.unbind(), alpha=-group.learning_rate * scale)
