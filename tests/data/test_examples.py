"""Examples, conversations and texts with labels: the order of training is that of windows (test_batches.py), in rows."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.data import IGNORE_INDEX, Examples
from glassgpt.errors import ConfigError

seeds = st.integers(0, 2**63 - 1)


def folder(task, sizes):
    """What Examples sees of a prepared folder: documents of so many tokens, each of whose tokens is its document's number + 1.
    Of a conversation every token but the first is an answer; a text's label is its number."""
    sizes = np.asarray(sizes)
    starts = np.cumsum(sizes) - sizes
    tokens = np.repeat(np.arange(1, len(sizes) + 1), sizes).astype(np.uint32)
    marks = np.ones(len(tokens), np.uint8) if task == "conversations" else np.arange(len(sizes)).astype(np.uint32)
    if task == "conversations":
        marks[starts] = 0
    documents = np.stack([starts, sizes], axis=1)
    return SimpleNamespace(meta=SimpleNamespace(task=task), train=tokens, train_marks=marks, train_documents=documents)


@st.composite
def some(draw):
    task = draw(st.sampled_from(["conversations", "labels"]))
    return Examples(folder(task, draw(st.lists(st.integers(2, 9), min_size=1, max_size=40))), "train", 6, draw(seeds))


def trimmed(batch):
    """Its rows, the filling cut off, with what is scored: the same whatever they are batched with."""
    rows = []
    for tokens, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        length = sum(token > 0 for token in tokens)
        assert set(targets[length:]) <= {IGNORE_INDEX}
        rows.append((tuple(tokens[:length]), tuple(targets[:length])))
    return rows


@given(some(), st.integers(0, 4))
def test_each_example_once_an_epoch(chosen, epoch):
    count = len(chosen.numbers)
    documents = [int(chosen.batch(epoch * count + i, 1).tokens[0, 0]) for i in range(count)]
    assert sorted(documents) == (chosen.numbers + 1).tolist()


@given(some(), st.integers(0, 60), st.integers(1, 9))
def test_random_access_is_sequential_access_whatever_the_batch_size(chosen, step, batch_size):
    one_by_one = [row for i in range(batch_size) for row in trimmed(chosen.batch(step * batch_size + i, 1))]
    assert trimmed(chosen.batch(step, batch_size)) == one_by_one
    assert chosen.tokens_in(step, batch_size) == sum(len(tokens) for tokens, _ in one_by_one)


@given(some(), st.integers(0, 40), st.sampled_from([1, 2, 3, 4, 6]), st.sampled_from([1, 2, 3, 4, 6]))
def test_the_global_batch_is_the_same_whatever_the_world_size_and_the_accumulation(
    chosen, step, world_size, accumulation
):
    batch_size = 144
    mine = batch_size // world_size
    rows = []
    for rank in range(world_size):
        batch = chosen.batch(step, batch_size, slice(rank * mine, (rank + 1) * mine))
        for tokens, targets in zip(*(side.split(mine // accumulation) for side in batch), strict=True):
            rows += trimmed(type(batch)(tokens, targets))
    assert rows == trimmed(chosen.batch(step, batch_size))


@pytest.mark.parametrize("task", ["conversations", "labels"])
@pytest.mark.parametrize("step", [0, 123_456_789, 10**9])
def test_any_step_of_a_million_examples_comes_at_once(task, step):
    chosen = Examples(folder(task, np.full(1_000_000, 9)), "train", 6, seed=5)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        chosen.batch(step, 32)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05


def test_what_lies_beyond_what_can_be_counted_is_said():
    chosen = Examples(folder("labels", [3, 4, 5]), "train", 6, seed=5)
    assert torch.is_tensor(chosen.batch(2**60 - 1, 8).tokens)
    with pytest.raises(ConfigError, match=r"lies beyond the 2\*\*63 that can be counted"):
        chosen.batch(2**60, 8)
