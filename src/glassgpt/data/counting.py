"""What counting alone reaches: a Witten-Bell table of byte n-grams, no learning, a few seconds.

A language model worth the name beats this on the same split. Source: Witten and Bell (1991), method C, interpolated:
with a context seen n times and followed by k distinct bytes, p = (count + k * p_shorter) / (n + k), down to 1/256.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LONGEST_GRAM = 8  # bytes: what fits into one 64-bit key, a context of seven
SEPARATOR = 0xFF  # stands between documents; occurs in no UTF-8 text
TRAIN_LIMIT = 64 << 20  # bytes that are used at most, from the beginning: half a minute, 1.6 GB of memory
VAL_LIMIT = 8 << 20

Bytes = bytes | bytearray | memoryview
U64 = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.intp]


class CountingBaseline(NamedTuple):
    bits_per_byte: float
    order: int  # the longest gram of the best table: a context of order - 1 bytes


def counting_bits_per_byte(train: Bytes, val: Bytes) -> float:
    """Bits a byte of `val` under counts from `train`, by the best maximal order; see `counting_baseline`."""
    return counting_baseline(train, val).bits_per_byte


def counting_baseline(train: Bytes, val: Bytes, marks: Bytes | None = None) -> CountingBaseline:
    """The best of the tables with grams of up to 1 .. LONGEST_GRAM bytes. Documents are joined with SEPARATOR.

    Every byte of `val` but separators is scored, the first ones from the contexts that there are; with `marks`, those only
    where it is not 0. Of a larger text the first TRAIN_LIMIT and VAL_LIMIT bytes count.
    """
    text = np.frombuffer(train, np.uint8)[:TRAIN_LIMIT]
    asked = np.frombuffer(val, np.uint8)[:VAL_LIMIT]
    scored = asked != SEPARATOR
    if marks is not None:
        marked = np.frombuffer(marks, np.uint8)[:VAL_LIMIT] != 0
        scored = scored & marked if marked.any() else scored
    bits = [float(-np.log2(p[scored]).mean()) for p in probabilities(text, asked)]
    best = int(np.argmin(bits))
    return CountingBaseline(bits[best], best + 1)


def windows(text: npt.NDArray[np.uint8]) -> U64:
    """(n,) bytes -> (n,) the LONGEST_GRAM bytes from each position on as one number, the first byte in front.

    Numbers sort as the grams do, for every shorter length too. Past the end stand separators.
    """
    padded = np.concatenate([text, np.full(LONGEST_GRAM - 1, SEPARATOR, np.uint8)])
    keys = np.zeros(len(text), np.uint64)
    for i in range(LONGEST_GRAM):
        keys <<= np.uint64(8)
        keys |= padded[i : i + len(text)]
    return keys


def common_bytes(a: U64, b: U64) -> npt.NDArray[np.uint8]:
    """How many leading bytes two windows share, 0 .. LONGEST_GRAM."""
    common = np.zeros(len(a), np.uint8)
    difference = a ^ b
    for _ in range(LONGEST_GRAM):
        common += difference == 0
        difference >>= np.uint64(8)
    return common


def probabilities(text: npt.NDArray[np.uint8], asked: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.float64]]:
    """For each maximal order 1 .. LONGEST_GRAM, (asked,) the probability of every byte after what stands before it.

    One sort of all windows serves every order: grams of m bytes that are equal stand side by side, whatever m.
    """
    keys = windows(text)
    keys.sort()
    # Bytes shared with the window before; the first has none, and a last one is there to end the last group.
    joined = np.concatenate([np.zeros(1, np.uint8), common_bytes(keys[1:], keys[:-1]), np.zeros(1, np.uint8)])
    queries = windows(asked)
    order = np.argsort(queries)  # sorted queries walk through memory in step, some ten times faster
    queries = queries[order]
    # The windows of the text that share most with a query stand right before and right behind its place.
    behind = np.searchsorted(keys, queries)
    before = np.maximum(behind - 1, 0)
    behind = np.minimum(behind, len(keys) - 1)
    shared_before, shared_behind = common_bytes(keys[before], queries), common_bytes(keys[behind], queries)
    nearest = np.where(shared_behind >= shared_before, behind, before)
    shared = np.maximum(shared_behind, shared_before)
    del keys, queries, before, behind, shared_before, shared_behind

    p = np.full(len(asked), 1 / 256)
    starts = np.array([0, len(text)])  # where in the sorted windows another gram of the context's length begins
    for context in range(LONGEST_GRAM):
        longer = np.flatnonzero(joined <= context)  # where another gram of one byte more begins
        seen, kinds, count = group_counts(starts, longer, nearest)
        # Back from sorted windows to positions: the window at i predicts the byte at i + context.
        position = order + context
        known = (shared >= context) & (position < len(asked))
        at, n, k = position[known], seen[known], kinds[known]
        c = np.where(shared[known] > context, count[known], 0)
        p = p.copy()
        p[at] = (c + k * p[at]) / (n + k)
        yield p
        starts = longer


def group_counts(starts: Ints, longer: Ints, at: Ints) -> tuple[Ints, Ints, Ints]:
    """For places in the sorted windows: how often the context occurs, with how many next bytes, how often the gram."""
    group = np.searchsorted(starts, at, side="right") - 1
    first, last = starts[group], starts[group + 1]
    kinds = np.searchsorted(longer, last) - np.searchsorted(longer, first)
    gram = np.searchsorted(longer, at, side="right") - 1
    return last - first, kinds, longer[gram + 1] - longer[gram]
