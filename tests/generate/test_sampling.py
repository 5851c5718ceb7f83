import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.errors import ConfigError, GlassError
from glassgpt.generate import SamplingSettings, sample
from glassgpt.generate.sampling import keep_top_k, keep_top_p

# Whole numbers, so that there are ties.
LOGITS = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)
P = st.floats(0.01, 1.0)


def kept(logits: torch.Tensor) -> list[list[int]]:
    return [[i for i, value in enumerate(row) if value > float("-inf")] for row in logits.tolist()]


def draw(logits, seed=1, **how):
    return sample(logits, torch.Generator().manual_seed(seed), **how)


@settings(deadline=None)
@given(LOGITS, st.integers(1, 15))
def test_top_k_keeps_the_k_largest_and_their_equals(row, k):
    logits = torch.tensor([row, row[::-1]])
    result = keep_top_k(logits, k)
    threshold = sorted(row, reverse=True)[min(k, len(row)) - 1]
    assert kept(result)[0] == [i for i, value in enumerate(row) if value >= threshold]
    assert len(kept(result)[0]) >= min(k, len(row))
    for before, after in zip(logits.flatten().tolist(), result.flatten().tolist(), strict=True):
        assert after in (before, float("-inf"))  # what stays is not changed
    assert kept(result)[1] == [len(row) - 1 - i for i in kept(result)[0]][::-1]


@settings(deadline=None)
@given(LOGITS, P)
def test_top_p_keeps_the_smallest_set_that_reaches_p(row, p):
    logits = torch.tensor([row, row[::-1]], dtype=torch.float64)
    result = keep_top_p(logits, p)
    assert ((result == logits) | (result == float("-inf"))).all()
    for before, keep in zip(logits, kept(result), strict=True):
        probabilities = before.softmax(-1)
        together = probabilities[keep].sum().item()
        assert len(keep) >= 1
        assert together >= p - 1e-12
        least = probabilities[keep].min().item()
        assert together - least < p + 1e-12 or len(keep) == 1  # one fewer would not do
        dropped = [i for i in range(len(row)) if i not in keep]
        assert all(probabilities[i] <= least for i in dropped)


def test_top_p_by_hand():
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.97, 0.01, 0.01, 0.01]], dtype=torch.float64).log()
    assert kept(keep_top_p(logits, 0.65)) == [[1, 3], [0]]
    assert kept(keep_top_p(logits, 0.75)) == [[1, 2, 3], [0]]
    assert kept(keep_top_p(logits, 1e-9)) == [[1], [0]]


@settings(deadline=None)
@given(LOGITS, st.integers(0, 5), P, st.integers(0, 2**40))
def test_temperature_zero_takes_the_likeliest_and_draws_nothing(row, k, p, seed):
    logits = torch.tensor([row, row[::-1]])
    generator = torch.Generator().manual_seed(seed)
    state = generator.get_state()
    assert torch.equal(sample(logits, generator, 0.0, k, p), logits.argmax(-1))
    assert torch.equal(generator.get_state(), state)


@settings(deadline=None)
@given(LOGITS, st.floats(0.05, 5), st.integers(0, 5), P, st.integers(0, 2**40))
def test_a_draw_is_one_of_those_kept_and_the_same_for_the_same_seed(row, temperature, k, p, seed):
    logits = torch.tensor([row] * 3)
    before = logits.clone()
    first = draw(logits, seed, temperature=temperature, top_k=k, top_p=p)
    assert first.shape == (3,) and first.dtype == torch.int64
    assert torch.equal(first, draw(logits, seed, temperature=temperature, top_k=k, top_p=p))
    assert torch.equal(logits, before)
    allowed = keep_top_k(logits.double() / temperature, k) if k else logits.double() / temperature
    allowed = keep_top_p(allowed, p) if p < 1 else allowed
    assert all(token in keep for token, keep in zip(first.tolist(), kept(allowed), strict=True))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"temperature": 0.5}, [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.8}, [0, 4 / 9, 2 / 9, 3 / 9]),
        # Temperature first: squared, the two likeliest are 5/6 of all.
        ({"temperature": 0.5, "top_p": 0.8}, [0, 16 / 25, 0, 9 / 25]),
        # top_k before top_p: of the three that are left the first two are 7/9.
        ({"top_k": 3, "top_p": 0.75}, [0, 4 / 7, 0, 3 / 7]),
    ],
    ids=str,
)
def test_draws_come_as_often_as_they_are_probable(how, expected):
    n = 20_000
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log() + 7  # logits are known up to a constant
    counts = draw(logits.expand(n, -1), **how).bincount(minlength=4) / n
    for share, probability in zip(counts.tolist(), expected, strict=True):
        assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / n)


def test_another_seed_is_another_draw():
    logits = torch.zeros(50, 7)
    assert not torch.equal(draw(logits, 1), draw(logits, 2))


@pytest.mark.parametrize("temperature", [1e-30, 1e-40, 5e-324])
def test_the_smallest_temperature_is_no_division_by_zero(temperature):
    logits = torch.tensor([[1.0, 3.0, 2.0], [3e38, -3e38, 0.0]])
    assert draw(logits, temperature=temperature).tolist() == [1, 0]


def test_bfloat16_logits_are_drawn_from_as_they_are():
    logits = torch.tensor([[1.0, 2.0, 0.5]] * 40).bfloat16()
    assert torch.equal(draw(logits), draw(logits.float()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"temperature": -0.1},
            "temperature is -0.1; it has to be finite and at least 0 (0: always the likeliest token)",
        ),
        (
            {"temperature": math.nan},
            "temperature is nan; it has to be finite and at least 0 (0: always the likeliest token)",
        ),
        ({"temperature": math.inf}, "temperature is inf; it has to be finite and at least 0"),
        ({"top_k": -1}, "top_k is -1; it has to be at least 0 (0: all tokens)"),
        ({"top_p": 0.0}, "top_p is 0.0; it has to be above 0 and at most 1 (1: all tokens)"),
        ({"top_p": 1.1}, "top_p is 1.1; it has to be above 0 and at most 1 (1: all tokens)"),
        ({"top_p": math.nan}, "top_p is nan; it has to be above 0 and at most 1 (1: all tokens)"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1; it has to be at least 0"),
        ({"max_new_tokens": 10**20}, f"max_new_tokens is {10**20}; it has to be at least 0 and at most 2147483647"),
        ({"seed": -1}, "seed is -1; it has to be at least 0 and below 2**63"),
        ({"seed": 2**63}, f"seed is {2**63}; it has to be at least 0 and below 2**63"),
    ],
    ids=str,
)
def test_settings_out_of_range(wrong, message):
    with pytest.raises(ConfigError) as caught:
        SamplingSettings(**wrong)
    assert str(caught.value).startswith(message)


def test_the_settings_of_somebody_who_says_nothing():
    assert vars(SamplingSettings()) == {
        "max_new_tokens": 500, "temperature": 0.8, "top_k": 200, "top_p": 1.0, "seed": 1337,
    }  # fmt: skip


@pytest.mark.parametrize("temperature", [0, 1])
def test_scores_that_are_no_numbers_are_said(temperature):
    with pytest.raises(GlassError, match="the model's scores are not numbers"):
        sample(torch.tensor([[0.0, float("nan")]]), torch.Generator(), temperature)
