import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer

from glassgpt.errors import TokenizerError
from glassgpt.tokenizer import END_OF_TEXT, build_tokenizer, load_tokenizer, save_tokenizer


def build_char(*texts: str, single_text: bool = False):
    return build_tokenizer("char", lambda: iter(texts), single_text=single_text)


def test_characters_are_sorted_and_end_of_text_comes_last() -> None:
    tokenizer = build_char("banana\n", "cab é")
    assert [tokenizer.decode([id]) for id in range(tokenizer.vocab_size)] == [*"\n abcné", END_OF_TEXT]
    assert tokenizer.encode("cab") == [4, 2, 3]


def test_a_single_text_has_no_end_of_text(tmp_path) -> None:
    tokenizer = build_char("banana\n", single_text=True)
    assert tokenizer.vocab_size == 4
    assert tokenizer.end_of_text is None
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path / "tokenizer.json").end_of_text is None


@settings(deadline=None)
@given(st.text(min_size=1))
def test_ids_are_those_of_a_dictionary(text: str) -> None:
    tokenizer = build_char(text, single_text=True)
    id_of = {character: id for id, character in enumerate(sorted(set(text)))}
    assert tokenizer.encode(text) == [id_of[character] for character in text]


def test_the_library_keeps_line_ends_apart() -> None:
    tokenizer = build_char("a\r\n\u2028e\u0301")
    text = "\n\n\r\n\r\n\n\u2028\u2028ae\u0301"
    assert LibraryTokenizer.from_str(tokenizer.to_json()).encode(text).ids == tokenizer.encode(text)


@pytest.mark.parametrize("unknown", ["é", "z", "\x00", "A", "\U0010ffff", "\n"])
def test_an_unknown_character_is_named_with_its_position(unknown: str) -> None:
    tokenizer = build_char("abcdef\U0001f600")
    for use in (tokenizer.encode, lambda text: tokenizer.encode_batch(["abc", text])):
        with pytest.raises(TokenizerError) as caught:
            use(f"a\U0001f600{unknown}b{unknown}")
        name = f"{unknown!r} (U+{ord(unknown):04X})"
        message = str(caught.value)
        assert message.startswith(f"character {name} at position 2 (counted from 0) is not one of the 7 characters")
        assert "\n" not in message


def test_an_empty_corpus_makes_no_vocabulary() -> None:
    for texts in ([], ["", ""]):
        with pytest.raises(TokenizerError, match="the corpus is empty"):
            build_char(*texts)


def test_a_vocabulary_beyond_two_bytes_needs_four() -> None:
    characters = "".join(chr(code_point) for code_point in range(0x10000, 0x20001))
    tokenizer = build_char(characters, single_text=True)
    ids = tokenizer.encode_batch([characters[::-1]])[0]
    assert ids.dtype == np.uint32
    assert ids.tolist() == list(range(0x10000, -1, -1))
