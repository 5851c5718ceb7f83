import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.model.attention import attention_weights, causal_mask, explicit_attention, fused_attention

# (T, S): a whole text; one more token; a piece after a piece; a text of one token.
LENGTHS = [(7, 7), (1, 9), (4, 9), (8, 9), (1, 1)]
HEADS = [(6, 6), (6, 2), (6, 1)]
B, D = 3, 5


def qkv(T, S, H, K, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    shapes = [(B, H, T, D), (B, K, S, D), (B, K, S, D)]
    return [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in shapes]


def value_and_gradients(attention, inputs):
    out = attention(*inputs)
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("H", "K"), HEADS)
@pytest.mark.parametrize(("T", "S"), LENGTHS)
def test_fused_and_explicit_agree_in_value_and_gradient(T, S, H, K, dtype, tolerance):
    inputs = qkv(T, S, H, K, dtype)
    explicit = value_and_gradients(explicit_attention, inputs)
    fused = value_and_gradients(fused_attention, inputs)
    assert explicit[0].shape == (B, H, T, D)
    for a, b in zip(explicit, fused, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("H", "K"), HEADS)
@pytest.mark.parametrize(("T", "S"), LENGTHS)
def test_attention_is_the_formula_of_the_paper(T, S, H, K):
    """Query head h of group h // (H / K), query i at position S - T + i, one number at a time."""
    q, k, v = (x.detach() for x in qkv(T, S, H, K))
    out = explicit_attention(q, k, v)
    b, h, i = 2, H - 2, T // 2
    group, seen = h // (H // K), S - T + i + 1
    scores = [sum(q[b, h, i, d] * k[b, group, j, d] for d in range(D)) / math.sqrt(D) for j in range(seen)]
    total = sum(math.exp(score) for score in scores)
    for d in range(D):
        expected = sum(math.exp(score) / total * v[b, group, j, d] for j, score in enumerate(scores))
        assert out[b, h, i, d].item() == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(("T", "S"), LENGTHS)
def test_rows_sum_to_one_and_see_no_later_position(T, S):
    q, k, _ = qkv(T, S, 6, 2)
    weights = attention_weights(q, k)
    assert weights.shape == (B, 6, T, S)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, 6, T, dtype=torch.float64), rtol=0, atol=1e-12)
    for i in range(T):
        own = S - T + i
        assert (weights[..., i, : own + 1] > 0).all()
        assert (weights[..., i, own + 1 :] == 0).all()


@settings(deadline=None, max_examples=30)
@given(T=st.integers(1, 9), earlier=st.integers(0, 9))
def test_the_mask_counts_from_the_end(T, earlier):
    mask = causal_mask(T, T + earlier, torch.device("cpu"))
    assert mask.tolist() == [[j <= earlier + i for j in range(T + earlier)] for i in range(T)]


@pytest.mark.parametrize("attention", [explicit_attention, fused_attention])
def test_dropout_acts_where_it_is_asked_for(attention):
    q, k, v = (x.detach() for x in qkv(7, 7, 6, 2))
    torch.manual_seed(0)
    assert torch.equal(attention(q, k, v, 0.0), attention(q, k, v, 0.0))
    assert not torch.equal(attention(q, k, v, 0.5), attention(q, k, v, 0.5))
    ones = torch.ones_like(v)  # the mean of a row of weights stays 1
    mean = torch.stack([attention(q, k, ones, 0.5) for _ in range(300)]).mean()
    assert mean.item() == pytest.approx(1.0, abs=0.02)
