import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.data.split import from_on, split_character, split_documents, split_labelled, up_to
from glassgpt.errors import DataError


def hashes(count):
    return [int.from_bytes(hashlib.sha256(str(i).encode()).digest()[:8]) for i in range(count)]


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=40))
def test_both_sides_have_a_document_and_validation_at_most_half(sizes):
    chosen = split_documents(hashes(len(sizes)), sizes)
    assert 0 < chosen.sum() < len(sizes)
    assert np.array(sizes)[chosen].sum() <= sum(sizes) / 2


@given(st.lists(st.integers(1, 1000), min_size=300, max_size=400))
def test_a_tenth_is_met_where_documents_are_small(sizes):
    share = np.array(sizes)[split_documents(hashes(len(sizes)), sizes)].sum() / sum(sizes)
    assert abs(share - 0.1) < 0.01


def test_the_order_of_listing_does_not_matter_and_one_more_document_moves_few():
    sizes = [1 + i % 7 for i in range(500)]
    chosen = split_documents(hashes(500), sizes)
    assert (split_documents(hashes(500)[::-1], sizes[::-1]) == chosen[::-1]).all()
    assert (split_documents(hashes(501), [*sizes, 5])[:500] != chosen).sum() < 10


def test_one_large_document_is_not_most_of_validation():
    sizes = [1000 + i for i in range(60)]
    for large in range(60):
        sizes_now = [*sizes]
        sizes_now[large] = 5000  # more than half of a tenth, yet within it
        chosen = split_documents(hashes(60), sizes_now)
        assert not chosen[large]
        assert abs(np.array(sizes_now)[chosen].sum() / sum(sizes_now) - 0.1) < 0.02


def test_a_large_document_joins_where_the_small_ones_come_to_little():
    assert split_documents(hashes(4), [90, 900, 5, 4]).tolist() == [True, False, True, True]


def test_documents_that_are_all_too_large_give_the_smallest():
    assert split_documents(hashes(3), [700, 400, 900]).tolist() == [False, True, False]


@given(st.text(min_size=2, max_size=30), st.lists(st.integers(0, 30), max_size=6))
def test_a_single_text_is_cut_at_its_character(text, places):
    cut = split_character(len(text))
    assert cut == int(0.9 * len(text))
    edges = sorted({0, len(text), *(p for p in places if p < len(text))})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert "".join(up_to(iter(pieces), cut)) == text[:cut]
    assert "".join(from_on(iter(pieces), cut)) == text[cut:]
    assert all([*up_to(iter(pieces), cut), *from_on(iter(pieces), cut)])


def test_one_character_cannot_be_split():
    with pytest.raises(DataError, match="a text of 1 characters cannot be split"):
        split_character(1)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 4)),
        min_size=2,
        max_size=120,
        unique_by=lambda pair: pair[0],
    )
)
def test_of_each_label_a_tenth_is_for_validation(texts):
    hashes, labels = zip(*texts, strict=True)
    chosen = split_labelled(hashes, labels)
    assert 0 < chosen.sum() < len(texts)
    for label in set(labels):
        of_it = [taken for taken, other in zip(chosen, labels, strict=True) if other == label]
        if len(of_it) > 1:
            assert sum(of_it) == max(1, round(0.1 * len(of_it)))
    order = sorted(range(len(texts)), key=lambda i: hashes[i])  # whatever the order of the files
    assert split_labelled([hashes[i] for i in order], [labels[i] for i in order]).tolist() == chosen[order].tolist()
