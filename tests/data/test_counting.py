"""The vectorised table equals one of plain dictionaries, and what it says is a probability."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.data import counting
from glassgpt.data.counting import LONGEST_GRAM, SEPARATOR, counting_baseline, counting_bits_per_byte, probabilities

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"

# Few letters, so that contexts repeat, and separators among them.
small = st.lists(st.sampled_from([*b"aab\0", SEPARATOR]), min_size=1, max_size=40).map(bytes)


def plain_probabilities(train: bytes, val: bytes, order: int) -> list[float]:
    padded = train + bytes([SEPARATOR]) * (LONGEST_GRAM - 1)
    grams = [Counter(padded[i : i + k + 1] for i in range(len(train))) for k in range(order)]
    seen, kinds = [Counter() for _ in range(order)], [Counter() for _ in range(order)]
    for k, counts in enumerate(grams):
        for gram, n in counts.items():
            seen[k][gram[:-1]] += n
            kinds[k][gram[:-1]] += 1
    result = []
    for i in range(len(val)):
        p = 1 / 256
        for k in range(min(order, i + 1)):
            context = val[i - k : i]
            if seen[k][context]:
                n, distinct = seen[k][context], kinds[k][context]
                p = (grams[k][val[i - k : i + 1]] + distinct * p) / (n + distinct)
        result.append(p)
    return result


@given(small, small)
@settings(max_examples=150)
def test_equal_to_plain_dictionaries_at_every_order(train, val):
    fast = list(probabilities(np.frombuffer(train, np.uint8), np.frombuffer(val, np.uint8)))
    assert len(fast) == LONGEST_GRAM
    for order, p in enumerate(fast, start=1):
        np.testing.assert_allclose(p, plain_probabilities(train, val, order), rtol=0, atol=1e-9)


def test_bits_are_of_the_best_order_and_of_text_only():
    train, val = b"abracadabra\xffabba", b"abra\xffcab"
    bits = []
    for order in range(1, LONGEST_GRAM + 1):
        p = plain_probabilities(train, val, order)
        bits.append(-sum(math.log2(q) for q, byte in zip(p, val, strict=True) if byte != SEPARATOR) / 7)
    best = counting_baseline(train, val)
    assert best.bits_per_byte == pytest.approx(min(bits), abs=1e-9)
    assert best.order == 1 + bits.index(min(bits))
    assert counting_bits_per_byte(bytearray(train), memoryview(val)) == best.bits_per_byte


def test_the_probabilities_of_all_bytes_sum_to_one():
    train, context = b"the cat sat on the mat, the rat ate the hat", b"n the "
    endings = [
        list(probabilities(np.frombuffer(train, np.uint8), np.array([*context, b], np.uint8))) for b in range(256)
    ]
    for order in range(LONGEST_GRAM):
        assert sum(p[order][-1] for p in endings) == pytest.approx(1, abs=1e-9)


def test_only_the_beginning_of_a_huge_text_is_used(monkeypatch):
    monkeypatch.setattr(counting, "TRAIN_LIMIT", 20)
    monkeypatch.setattr(counting, "VAL_LIMIT", 5)
    assert counting_baseline(b"ab" * 10 + b"xyz" * 99, b"ababaxyz") == counting_baseline(b"ab" * 10, b"ababa")


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason="shared text is absent")
def test_tinyshakespeare_is_as_well_counted_as_by_characters():
    text = SHAKESPEARE.read_bytes()
    cut = int(0.9 * len(text))
    baseline = counting_baseline(text[:cut], text[cut:])
    assert baseline.order == 5
    assert baseline.bits_per_byte * math.log(2) == pytest.approx(1.669, abs=2e-3)  # ../shared/yardstick/count_table.py
