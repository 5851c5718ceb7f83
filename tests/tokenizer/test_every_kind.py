"""What holds for every kind in KINDS; a new kind is picked up without a line here."""

import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.errors import TokenizerError
from glassgpt.tokenizer import (
    END_OF_TEXT,
    KINDS,
    Tokenizer,
    build_tokenizer,
    id_dtype,
    load_tokenizer,
    save_tokenizer,
    tokenizer_hash,
)

from .conftest import CORPUS

SPECIAL_LOOKALIKES = [END_OF_TEXT, f"a{END_OF_TEXT}b", "<|endoftext|", f" {END_OF_TEXT}\n{END_OF_TEXT}"]


def draw_text(data: st.DataObject, tokenizer: Tokenizer) -> str:
    """Any text that the tokenizer knows: of its characters, or of all."""
    known = sorted(set("".join(CORPUS)))
    return data.draw(st.text(st.sampled_from(known)) | (st.nothing() if tokenizer.kind == "char" else st.text()))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_text_survives_and_each_token_knows_its_bytes(tokenizer: Tokenizer, data: st.DataObject) -> None:
    text = draw_text(data, tokenizer)
    ids = tokenizer.encode(text)
    assert all(type(id) is int and 0 <= id < tokenizer.vocab_size for id in ids)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_batch_gives_the_ids_of_its_texts(tokenizer: Tokenizer, data: st.DataObject) -> None:
    texts = [draw_text(data, tokenizer) for _ in range(data.draw(st.integers(0, 4)))]
    arrays = tokenizer.encode_batch(texts)
    assert [array.tolist() for array in arrays] == [tokenizer.encode(text) for text in texts]
    assert all(array.dtype == id_dtype(tokenizer.vocab_size) for array in arrays)


@pytest.fixture(scope="session")
def library(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(tokenizer.to_json())


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_library_reads_our_file_and_agrees(
    tokenizer: Tokenizer, library: tokenizers.Tokenizer, data: st.DataObject
) -> None:
    text = draw_text(data, tokenizer)
    assert library.encode(text).ids == tokenizer.encode(text)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    assert library.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)
    assert library.get_vocab_size() == tokenizer.vocab_size
    assert library.token_to_id(END_OF_TEXT) == tokenizer.end_of_text


def test_saved_and_loaded_it_is_the_same(tokenizer: Tokenizer, tmp_path) -> None:
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert (loaded.kind, loaded.vocab_size, loaded.end_of_text) == (
        tokenizer.kind,
        tokenizer.vocab_size,
        tokenizer.end_of_text,
    )
    assert loaded.to_json() == tokenizer.to_json()
    assert tokenizer_hash(loaded) == tokenizer_hash(tokenizer)
    assert loaded.encode(CORPUS[2]) == tokenizer.encode(CORPUS[2])
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_the_file_that_the_library_writes_back_is_the_same(
    tokenizer: Tokenizer, library: tokenizers.Tokenizer, tmp_path
) -> None:
    library.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer_hash(load_tokenizer(tmp_path / "tokenizer.json")) == tokenizer_hash(tokenizer)


def test_end_of_text_is_the_last_id_and_stands_for_its_name(tokenizer: Tokenizer) -> None:
    assert tokenizer.end_of_text == tokenizer.vocab_size - 1
    assert tokenizer.token_bytes(tokenizer.end_of_text) == END_OF_TEXT.encode()
    assert tokenizer.decode([tokenizer.end_of_text]) == END_OF_TEXT


@pytest.mark.parametrize("text", SPECIAL_LOOKALIKES)
def test_text_that_looks_special_is_text(tokenizer: Tokenizer, text: str) -> None:
    if tokenizer.kind == "char":
        tokenizer = build_tokenizer("char", lambda: iter(SPECIAL_LOOKALIKES))
    for ids in (tokenizer.encode(text), tokenizer.encode_batch([text])[0].tolist()):
        assert tokenizer.end_of_text not in ids
        assert tokenizer.decode(ids) == text


def test_no_text_no_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode_batch([]) == []
    assert [array.tolist() for array in tokenizer.encode_batch(["", ""])] == [[], []]


@pytest.mark.parametrize("beyond", [-1, 0, 10**30])
def test_an_id_outside_the_vocabulary_is_named(tokenizer: Tokenizer, beyond: int) -> None:
    id = tokenizer.vocab_size if beyond == 0 else beyond
    for use in (lambda: tokenizer.decode([0, id]), lambda: tokenizer.token_bytes(id)):
        with pytest.raises(TokenizerError, match=rf"^id {id} is outside .* 0 to {tokenizer.vocab_size - 1}; .*$"):
            use()


def test_decode_takes_arrays(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(np.array(tokenizer.encode("the cat"), dtype=np.uint16)) == "the cat"


def test_a_lone_surrogate_is_an_error_and_no_crash(tokenizer: Tokenizer) -> None:
    for use in (lambda: tokenizer.encode("cat\ud800"), lambda: tokenizer.encode_batch(["cat", "cat\ud800"])):
        with pytest.raises(TokenizerError, match=r"^character '\\ud800' \(U\+D800\) at position 3 .* lone surrogate"):
            use()


def test_a_byte_that_is_not_utf_8_is_named_as_what_it_is(tokenizer: Tokenizer) -> None:
    """Standard input and arguments reach Python with a surrogate for each."""
    text = b"cat\xe9 sat".decode("utf-8", "surrogateescape")
    with pytest.raises(
        TokenizerError, match=r"^the text is not UTF-8: after 3 characters comes the byte 0xe9; convert"
    ):
        tokenizer.encode(text)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_lone_surrogate_in_the_corpus_is_an_error_and_no_crash(kind: str) -> None:
    with pytest.raises(TokenizerError, match=r"position 1 .* lone surrogate"):
        build_tokenizer(kind, lambda: iter(["fine", "a\udfff"]))


def test_vocab_size_is_refused_where_it_would_be_ignored(tokenizer: Tokenizer) -> None:
    if tokenizer.kind == "bpe":
        return
    same = build_tokenizer(tokenizer.kind, lambda: iter(CORPUS), tokenizer.vocab_size)
    assert same.vocab_size == tokenizer.vocab_size
    with pytest.raises(TokenizerError, match=rf"^vocab_size 999 does not fit the {tokenizer.kind} .* leave it out"):
        build_tokenizer(tokenizer.kind, lambda: iter(CORPUS), 999)


def test_an_unknown_kind_gets_a_suggestion() -> None:
    with pytest.raises(TokenizerError, match=r"'bytes' is none of char, byte, gpt2, bpe; did you mean byte\?$"):
        build_tokenizer("bytes", lambda: iter(CORPUS))
    with pytest.raises(TokenizerError, match="'zzzzzz' is none of char"):
        build_tokenizer("zzzzzz", lambda: iter(CORPUS))
    assert list(KINDS) == ["char", "byte", "gpt2", "bpe"]


def test_the_package_never_loads_torch() -> None:
    command = "import sys, glassgpt.tokenizer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
