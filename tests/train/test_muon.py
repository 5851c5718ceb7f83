"""Muon against torch's own, which takes one matrix at a time, and against what it promises: orthogonal updates."""

import pytest
import torch

from glassgpt.train.group import Group
from glassgpt.train.muon import Muon, orthogonalized

# Square, wide and tall ones, some of them of one shape.
SHAPES = [(32, 32), (64, 32), (32, 32), (40, 24), (24, 56), (32, 32), (64, 32)]


def matrices(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw).requires_grad_() for shape in SHAPES]


def set_gradients(step, *models):
    draw = torch.Generator().manual_seed(step)
    for shape, *same in zip(SHAPES, *models, strict=True):
        gradient = torch.randn(shape, generator=draw) * 10.0 ** (-step)
        for p in same:
            p.grad = gradient.clone()


def test_in_bfloat16_it_has_the_bits_of_torch():
    ours, theirs = matrices(), matrices()
    muon = Muon(Group(ours, 0.02, weight_decay=0.1), momentum=0.9, dtype=torch.bfloat16)
    torchs = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.1)
    for step in range(5):
        set_gradients(step, ours, theirs)
        muon.step()
        torchs.step()
        muon.groups[0].learning_rate *= 0.9
        torchs.param_groups[0]["lr"] *= 0.9
        for a, b in zip(ours, theirs, strict=True):
            assert a.equal(b)
            assert muon.state[a]["momentum_buffer"].equal(torchs.state[b]["momentum_buffer"])


def one_at_a_time(matrix, dtype):
    """The plain way, as it is written down in the post that made it known."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(dtype)
    if x.shape[0] > x.shape[1]:
        x = x.T
    x = x / max(x.norm().item(), 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 24), (4, 24, 56)])
def test_in_other_precisions_it_is_the_plain_way(shape, dtype):
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.stack([one_at_a_time(matrix, dtype) for matrix in stack])
    found = orthogonalized(stack, dtype)
    assert found.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_every_direction_is_taken_at_about_one_pace():
    draw = torch.Generator().manual_seed(2)
    skewed = torch.randn(40, 24, generator=draw, dtype=torch.float64) * torch.logspace(0, -2, 24, dtype=torch.float64)
    lengths = torch.linalg.svdvals(orthogonalized(skewed[None], torch.float64)[0])
    assert lengths.min() > 0.3 and lengths.max() < 1.3 < torch.linalg.cond(skewed)


def test_without_a_gradient_nothing_moves():
    ours = matrices()
    optimizer = Muon(Group(ours, 0.1), momentum=0.9, dtype=torch.float32)
    before = [p.detach().clone() for p in ours]
    for p in ours:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(p.equal(other) for p, other in zip(ours, before, strict=True))
