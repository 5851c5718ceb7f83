"""AdamW against torch's own."""

import pytest
import torch

from glassgpt.train.adamw import AdamW
from glassgpt.train.group import Group

SHAPES = [(5, 7), (3, 4), (7,), (4,)]


def weights():
    draw = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=draw).requires_grad_() for shape in SHAPES]


@pytest.mark.parametrize("fused", [True, False])
def test_it_has_the_bits_of_torch(fused):
    """With two groups, a rate that changes, gradients of very different sizes, and one weight that gets none for a while."""
    ours, theirs = weights(), weights()
    adamw = AdamW([Group(ours[:2], 0.01, weight_decay=0.1), Group(ours[2:], 0.02)], beta1=0.8, beta2=0.95, fused=fused)
    torchs = torch.optim.AdamW(
        [
            {"params": theirs[:2], "weight_decay": 0.1, "lr": 0.01},
            {"params": theirs[2:], "weight_decay": 0.0, "lr": 0.02},
        ],
        betas=(0.8, 0.95), fused=fused, foreach=False,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(4)
    for step in range(6):
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(a.shape, generator=draw) * 10.0 ** (2 - 2 * step)
            a.grad, b.grad = (None, None) if number == 1 and step < 3 else (gradient, gradient.clone())
        adamw.step()
        torchs.step()
        for group, other in zip(adamw.groups, torchs.param_groups, strict=True):
            group.learning_rate *= 0.7
            other["lr"] *= 0.7
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert a.equal(b), (step, number)
            if number != 1 or step >= 3:
                assert all(torchs.state[b][name].equal(value) for name, value in adamw.state[a].items())


def test_nothing_to_learn_is_no_step():
    ours = weights()
    for fused in (True, False):
        adamw = AdamW([Group(ours, 0.01), Group([], 0.01)], beta1=0.9, beta2=0.95, fused=fused)
        adamw.step()
        assert not any(state["step"].item() for state in adamw.state.values())
