"""The order of training: every window once an epoch, computed from (seed, step) alone."""

import os
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.data import IGNORE_INDEX, Batches, validation_windows
from glassgpt.data.batches import permute
from glassgpt.errors import ConfigError, DataError

seeds = st.integers(0, 2**63 - 1)


def numbered(length):
    """Tokens that tell their own position."""
    return np.arange(length, dtype=np.uint16)


@st.composite
def lengths(draw):
    context_length = draw(st.integers(1, 13))
    return context_length, draw(st.integers(context_length + 1, 12 * context_length + 20))


@given(lengths(), seeds, st.integers(0, 5))
def test_each_window_once_an_epoch(sizes, seed, epoch):
    context_length, length = sizes
    batches = Batches(numbered(length), context_length, seed)
    windows = batches.windows_per_epoch
    assert windows >= length // context_length - 1
    starts = [int(batches.batch(epoch * windows + i, 1).tokens[0, 0]) for i in range(windows)]
    first = min(starts)
    assert sorted(starts) == list(range(first, first + windows * context_length, context_length))


@given(lengths(), seeds, st.integers(0, 50), st.integers(1, 7))
def test_targets_are_the_tokens_that_follow(sizes, seed, step, batch_size):
    context_length, length = sizes
    tokens, targets = Batches(numbered(length), context_length, seed).batch(step, batch_size)
    assert tokens.shape == targets.shape == (batch_size, context_length)
    assert tokens.dtype == targets.dtype == torch.int64
    assert tokens.is_contiguous()
    assert targets.is_contiguous()
    assert (targets == tokens[:, :1] + torch.arange(1, context_length + 1)).all()
    assert int(targets.max()) < length


@given(lengths(), seeds, st.integers(0, 50), st.integers(2, 9), st.data())
def test_rows_are_those_of_the_one_global_batch(sizes, seed, step, batch_size, data):
    context_length, length = sizes
    batches = Batches(numbered(length), context_length, seed)
    border = data.draw(st.integers(1, batch_size - 1))
    whole = batches.batch(step, batch_size)
    parts = [batches.batch(step, batch_size, rows) for rows in (slice(0, border), slice(border, None))]
    assert torch.equal(whole.tokens, torch.cat([p.tokens for p in parts]))
    assert torch.equal(whole.targets, torch.cat([p.targets for p in parts]))
    every_other = batches.batch(step, batch_size, slice(1, None, 2))
    assert torch.equal(whole.tokens[1::2], every_other.tokens)


@given(lengths(), seeds, st.integers(2, 5))
def test_random_access_is_sequential_access_whatever_the_batch_size(sizes, seed, batch_size):
    """Steps that straddle epochs included: the text may be much shorter than a batch."""
    context_length, length = sizes
    one_by_one = Batches(numbered(length), context_length, seed)
    late = 3 * one_by_one.windows_per_epoch // batch_size + 1
    expected = torch.cat([one_by_one.batch(late * batch_size + i, 1).tokens for i in range(batch_size)])
    assert torch.equal(Batches(numbered(length), context_length, seed).batch(late, batch_size).tokens, expected)


def test_epochs_and_seeds_differ_in_order_and_phase():
    context_length, windows = 8, 100
    tokens = numbered((windows + 1) * context_length)

    def epoch(seed, number):
        return Batches(tokens, context_length, seed).batch(number, windows).tokens[:, 0].numpy()

    first, second, other = epoch(5, 0), epoch(5, 1), epoch(6, 0)
    for a, b in ((first, second), (first, other), (second, other)):
        assert (a // context_length != b // context_length).mean() > 0.9
    assert len({int(epoch(5, e).min()) for e in range(200)}) == context_length
    # The order has no trend: it correlates neither with itself one later nor with the order of the text.
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.35
    assert abs(np.corrcoef(first, np.arange(windows))[0, 1]) < 0.35


def test_over_the_epochs_every_token_is_seen():
    batches = Batches(numbered(47), 7, seed=3)
    assert set(batches.batch(0, 600).targets.flatten().tolist()) == set(range(1, 47))


def test_every_window_is_equally_likely_at_every_place():
    size, draws = 5, 20_000
    keys = np.random.default_rng(0).integers(2**64, size=draws, dtype=np.uint64)
    for place in range(size):
        counts = np.bincount(permute(np.full(draws, place, np.uint64), size, keys).astype(int), minlength=size)
        assert abs(counts / draws - 1 / size).max() < 0.02


@given(st.integers(1, 3000), seeds)
@settings(max_examples=50)
def test_the_permutation_is_one(size, key):
    keys = np.full(size, key, np.uint64)
    assert sorted(permute(np.arange(size, dtype=np.uint64), size, keys).tolist()) == list(range(size))


def test_a_text_of_exactly_one_window():
    batch = Batches(numbered(6), 5, seed=1).batch(step=4, batch_size=3)
    assert batch.tokens.tolist() == [[0, 1, 2, 3, 4]] * 3
    with pytest.raises(DataError, match="5 tokens hold no window: context_length 5 needs 6; give more text or lower"):
        Batches(numbered(5), 5, seed=1)


@given(st.integers(2, 90), st.integers(1, 11), st.integers(1, 4))
def test_validation_scores_each_target_once_in_order(length, context_length, batch_size):
    tokens = numbered(length)
    batches = list(validation_windows(tokens, context_length, batch_size))
    inputs, targets = (torch.cat(side) for side in zip(*batches, strict=True))
    assert inputs.shape == targets.shape == (-(-(length - 1) // context_length), context_length)
    assert all(len(b.tokens) == batch_size for b in batches[:-1])
    assert len(batches[-1].tokens) > 0
    scored = targets != IGNORE_INDEX
    assert targets[scored].tolist() == list(range(1, length))
    assert (inputs[scored] == targets[scored] - 1).all()
    assert (inputs[:, 0] == torch.arange(len(inputs)) * context_length).all()


def test_validation_needs_two_tokens():
    with pytest.raises(DataError, match="at least two tokens, there are 1"):
        next(validation_windows(numbered(1), 4, 2))


@given(
    lengths(), seeds, st.integers(0, 40), st.sampled_from([(w, a) for w in (1, 2, 3, 4, 6) for a in (1, 2, 3, 4, 6)])
)
def test_the_global_batch_is_the_same_whatever_the_world_size_and_the_accumulation(sizes, seed, step, shared):
    """Each rank takes its rows, cut into the pieces that it accumulates, as the trainer does."""
    context_length, length = sizes
    (world_size, accumulation), batch_size = shared, 24 * 6
    batches = Batches(numbered(length), context_length, seed)
    mine = batch_size // world_size
    ranks = [batches.batch(step, batch_size, slice(rank * mine, (rank + 1) * mine)) for rank in range(world_size)]
    pieces = [piece for batch in ranks for piece in batch.tokens.split(mine // accumulation)]
    assert len(pieces) == world_size * accumulation
    assert torch.equal(torch.cat(pieces), batches.batch(step, batch_size).tokens)


def quickest(work):
    """Seconds; of several, since other programs run as well."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


@pytest.mark.skipif(os.name == "nt", reason="a file with holes takes its whole length there")
@pytest.mark.parametrize("step", [0, 1, 123_456_789, 10**9])
def test_any_step_of_ten_billion_tokens_comes_at_once(tmp_path, step):
    count, context_length, batch_size = 10**10, 1024, 12
    with (tmp_path / "train.bin").open("wb") as file:
        file.truncate(2 * count)
    tokens = np.memmap(tmp_path / "train.bin", np.uint16, "r")
    assert quickest(lambda: Batches(tokens, context_length, seed=5).batch(step, batch_size)) < 0.05
    starts = Batches(tokens, context_length, seed=5).window_starts(np.arange(step, step + 1000, dtype=np.int64))
    assert len(np.unique(starts)) > 990 and starts.min() >= 0 and starts.max() + context_length < count
    assert starts.max() > count // 2


@given(st.integers(1, 2**40), st.integers(1, 2**12), seeds)
def test_the_last_running_numbers_are_right_and_what_lies_beyond_is_said(step, batch_size, seed):
    batches = Batches(numbered(60), 7, seed)
    last = 2**63 // batch_size - 1
    late = batches.window_starts(np.array([last * batch_size], np.int64))
    one = batches.batch(last, batch_size, slice(0, 1))
    assert one.tokens[0, 0] == late[0] and 0 <= late[0] <= 60 - 8
    with pytest.raises(ConfigError, match=r"lies beyond the 2\*\*63 that can be counted; lower max_steps"):
        batches.batch(-(-(2**63) // batch_size) + step, batch_size)
