"""Token files -> batches. What a step sees is computed from (seed, step) alone, so that resuming costs nothing.

An epoch cuts the text into windows that follow each other, from a random first token on, and visits each once in random
order. The order is never stored: window number i of an epoch is found by a permutation that can be evaluated anywhere.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from glassgpt.errors import ConfigError, DataError

IGNORE_INDEX = -100  # torch's own default for targets that are not scored

Tokens = npt.NDArray[Any]  # (tokens,) of any unsigned dtype
U64 = npt.NDArray[np.uint64]


class Batch(NamedTuple):
    tokens: torch.Tensor  # (B, T) int64
    targets: torch.Tensor  # (B, T) int64: the token that follows, or IGNORE_INDEX


class Order:
    """Any number of things, each once an epoch, in another random order each time; `at` knows every place of it."""

    def __init__(self, things: int, seed: int) -> None:
        self.things, self.seed = things, seed

    def at(self, numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], U64]:
        """(B,) running numbers over all epochs -> (B,) which thing comes there, and a key of each one's epoch."""
        epoch, index = np.divmod(numbers, self.things)
        key = mix(mix(np.array([self.seed], np.int64).view(np.uint64)) + epoch.view(np.uint64))
        return permute(index.view(np.uint64), self.things, key).view(np.int64), key


class Batches:
    """Random access to the training order. `tokens` (N,), at least context_length + 1 of them (DataError otherwise).

    Neighbouring windows share one token: the last target of one is the first input of the next. Up to two windows of
    the text lie outside an epoch, one and less on average at either end; which tokens these are changes with the epoch.
    """

    def __init__(self, tokens: Tokens, context_length: int, seed: int) -> None:
        if len(tokens) <= context_length:
            raise DataError(
                f"{len(tokens)} tokens hold no window: context_length {context_length} needs {context_length + 1}; "
                "give more text or lower context_length"
            )
        self.tokens = np.asarray(tokens)  # a memory map's own class makes indexing slow
        self.context_length = context_length
        # One window fewer than fit, so that the phase has at least a whole window to move in.
        self.windows_per_epoch = max(1, len(tokens) // context_length - 1)
        self.order = Order(self.windows_per_epoch, seed)

    def batch(self, step: int, batch_size: int, rows: slice | None = None) -> Batch:
        """Step `step` (from 0) in batches of `batch_size` windows; `rows` picks some rows of that one global batch."""
        starts = self.window_starts(running_numbers(step, batch_size, rows))
        block = self.tokens[starts[:, None] + np.arange(self.context_length + 1)]  # (B, T + 1)
        return as_batch(block[:, :-1], block[:, 1:])

    def window_starts(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(B,) running numbers of windows over all epochs -> (B,) the position of each window's first token."""
        windows, context = self.windows_per_epoch, self.context_length
        index, key = self.order.at(numbers)
        room = np.uint64(len(self.tokens) - windows * context)  # room for the phase: the last target must exist
        return (mix(key) % room).view(np.int64) + index * context

    def places(self, step: int, batch_size: int) -> list[int]:
        """Where in the token file each window of that one global batch begins."""
        return [int(start) for start in self.window_starts(running_numbers(step, batch_size))]

    def tokens_in(self, step: int, batch_size: int) -> int:
        """How many tokens that one global batch reads."""
        return batch_size * self.context_length


def running_numbers(step: int, batch_size: int, rows: slice | None = None) -> npt.NDArray[np.int64]:
    """(B,) which things of all epochs make up the batch of step `step` (from 0), or those `rows` of it."""
    first = step * batch_size
    if first + batch_size > 2**63:
        raise ConfigError(
            f"step {step:,} of {batch_size:,} a step lies beyond the 2**63 that can be counted; lower max_steps"
        )
    return (first + np.arange(batch_size, dtype=np.int64))[rows or slice(None)]


def mix(x: U64) -> U64:
    """splitmix64: a fixed bijection of 64-bit words after which neighbours have nothing in common."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permute(index: U64, size: int, key: U64, rounds: int = 4) -> U64:
    """A random permutation of range(size), one for each key, evaluated at `index`. Both (B,).

    A Feistel network: write a number as (a, b), then add a hash of b to a, a hash of a to b, and so on: each turn can
    be undone, so the whole is one to one. It permutes range(rows * columns), slightly more than `size`; where it leads
    outside, it is applied again until it leads inside (cycle walking), which is one to one as well.
    """
    columns = int(np.ceil(np.sqrt(size)))
    rows = -(-size // columns)
    index = index.copy()
    outside = np.arange(len(index))
    while len(outside):
        a, b = np.divmod(index[outside], np.uint64(columns))
        turn = key[outside]
        for _ in range(rounds):
            turn = mix(turn)
            a = (a + mix(turn ^ b)) % np.uint64(rows)
            turn = mix(turn)
            b = (b + mix(turn ^ a)) % np.uint64(columns)
        index[outside] = a * np.uint64(columns) + b
        outside = outside[index[outside] >= size]
    return index


def validation_windows(tokens: Tokens, context_length: int, batch_size: int) -> Iterator[Batch]:
    """Windows side by side, in order: every token but the first is a target exactly once.

    The last window is filled up with IGNORE_INDEX, so that T is `context_length` throughout; the last batch may have
    fewer than `batch_size` rows. Needs two tokens (DataError otherwise).
    """
    tokens = np.asarray(tokens)
    if len(tokens) < 2:
        raise DataError(f"validation needs at least two tokens, there are {len(tokens)}; give more text")
    stride = batch_size * context_length
    for first in range(0, len(tokens) - 1, stride):
        stretch = tokens[first : first + stride + 1].astype(np.int64)
        rows = -(-(len(stretch) - 1) // context_length)
        missing = rows * context_length - (len(stretch) - 1)
        inputs = np.pad(stretch[:-1], (0, missing))
        targets = np.pad(stretch[1:], (0, missing), constant_values=IGNORE_INDEX)
        yield as_batch(inputs.reshape(rows, context_length), targets.reshape(rows, context_length))


def as_batch(tokens: Tokens, targets: Tokens) -> Batch:
    return Batch(torch.from_numpy(tokens.astype(np.int64)), torch.from_numpy(targets.astype(np.int64)))
