import itertools
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from glassgpt.errors import DataError, TokenizerError
from glassgpt.tokenizer import END_OF_TEXT, build_tokenizer, tokenizer_hash
from glassgpt.tokenizer import bpe as bpe_module
from glassgpt.tokenizer.bpe import split_text

from .conftest import CORPUS, TRICKY


def build_bpe(*texts: str, vocab_size: int | None = None):
    return build_tokenizer("bpe", lambda: iter(texts), vocab_size)


def learn_tokens_plainly(text: str, count: int) -> list[bytes]:
    """The slow twin: at each step the most frequent pair of neighbours, of equals the one with the smallest ids."""
    tokens = [bytes([byte]) for byte in sorted(range(256), key=lambda byte: bpe_module.BYTE_ALPHABET[byte])]
    words = [[tokens.index(bytes([byte])) for byte in text[start:end].encode()] for start, end in gpt2_words(text)]
    while len(tokens) < 256 + count:
        pairs = Counter(pair for word in words for pair in itertools.pairwise(word))
        pairs = Counter({pair: times for pair, times in pairs.items() if times >= 2})
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        tokens.append(tokens[best[0]] + tokens[best[1]])
        words = [merge(word, best, len(tokens) - 1) for word in words]
    return tokens


def gpt2_words(text: str) -> list[tuple[int, int]]:
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    return [offsets for _, offsets in splitter.pre_tokenize_str(text)]


def merge(word: list[int], pair: tuple[int, int], id: int) -> list[int]:
    merged: list[int] = []
    position = 0
    while position < len(word):
        found = tuple(word[position : position + 2]) == pair
        merged.append(id if found else word[position])
        position += 2 if found else 1
    return merged


@settings(deadline=None, max_examples=40)
@given(st.text("abc '\n", max_size=120))
def test_the_trainer_does_what_the_textbook_says_ties_included(text: str) -> None:
    tokenizer = build_bpe(text, vocab_size=257 + 20)
    plain = [*learn_tokens_plainly(text, count=20), END_OF_TEXT.encode()]
    assert [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)] == plain


def test_the_same_corpus_gives_the_same_bytes_in_every_process() -> None:
    # Each process has other hash seeds. Many ties: every pair occurs equally often.
    command = (
        "import itertools, glassgpt.tokenizer as t;"
        "text = ' '.join(map(''.join, itertools.permutations('abcdef', 4))) * 2;"
        "print(t.tokenizer_hash(t.build_tokenizer('bpe', lambda: iter([text]), 400)))"
    )
    runs = [subprocess.run([sys.executable, "-c", command], capture_output=True, check=True) for _ in range(3)]
    assert len({run.stdout for run in runs}) == 1
    assert all(run.stderr == b"" for run in runs)


def test_vocab_size_counts_everything() -> None:
    assert build_bpe(*CORPUS, vocab_size=257).vocab_size == 257
    assert build_bpe(*CORPUS, vocab_size=271).vocab_size == 271
    with pytest.raises(TokenizerError, match=r"^vocab_size 256 is too small for bpe: .* take 257; raise it"):
        build_bpe(*CORPUS, vocab_size=256)


def test_a_small_corpus_gives_a_smaller_vocabulary_and_says_so() -> None:
    lines: list[str] = []
    tokenizer = build_tokenizer("bpe", lambda: iter(["abab"]), report=lines.append)
    assert tokenizer.vocab_size == 258
    assert tokenizer.encode("abab") == [256, 256]
    assert lines == [
        "learning a vocabulary of 4,096 tokens from the corpus",
        "the corpus is small: 258 tokens, then no two neighbours in a word occur twice",
    ]
    assert build_bpe().vocab_size == 257


def test_a_fault_of_the_corpus_is_not_swallowed() -> None:
    def texts():
        yield "fine"
        raise DataError("notes.txt is not UTF-8")

    with pytest.raises(DataError, match=r"notes\.txt is not UTF-8"):
        build_tokenizer("bpe", texts)


@settings(deadline=None, max_examples=300)
@given(text=TRICKY, length=st.integers(1, 7))
def test_a_cut_never_changes_the_words(text: str, length: int) -> None:
    """On words rather than ids: two ways to cut may have the same ids by chance."""
    pieces = list(split_text(text, length))
    assert "".join(pieces) == text
    words = [piece[start:end] for piece in pieces for start, end in gpt2_words(piece)]
    assert words == [text[start:end] for start, end in gpt2_words(text)]


def test_cuts_are_found() -> None:
    assert list(split_text("ab cd\nef  gh", 1)) == ["ab", " cd", "\nef", "  gh"]
    assert list(split_text("ab cd\nef  gh", 4)) == ["ab cd", "\nef  gh"]
    assert list(split_text("abcd", 2)) == ["abcd"]


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(TRICKY, max_size=5))
def test_long_texts_take_another_road_to_the_same_ids(gpt2, texts: list[str]) -> None:
    whole = [gpt2.encode(text) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe_module, "PIECE_LENGTH", 3)
        patch.setattr(bpe_module, "BATCH_LENGTH", 11)
        assert [gpt2.encode(text) for text in texts] == whole
        assert [array.tolist() for array in gpt2.encode_batch(texts)] == whole


@settings(deadline=None)
@given(text=TRICKY)
def test_the_trainer_sees_the_whole_corpus_and_no_word_of_a_million_letters(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe_module, "TRAINING_PIECE_LENGTH", 3)
        pieces = list(bpe_module._training_pieces([text, "abcdefghijklmn", text]))
    assert "".join(pieces) == f"{text}abcdefghijklmn{text}"
    assert max(map(len, pieces)) <= 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_encodes_without_warning_or_hanging() -> None:
    command = """
import os, glassgpt.tokenizer as t
tokenizer = t.build_tokenizer("bpe", lambda: iter(["the cat and the hat"]), 260)
texts = ["the cat"] * 100
expected = [ids.tolist() for ids in tokenizer.encode_batch(texts)]
child = os.fork()
if child == 0:
    os._exit(0 if [ids.tolist() for ids in tokenizer.encode_batch(texts)] == expected else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command], env=environment, capture_output=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, b"")


def test_a_hash_tells_tokenizers_apart() -> None:
    hashes = {tokenizer_hash(build_bpe(*CORPUS, vocab_size=size)) for size in (260, 261, 262)}
    assert len(hashes) == 3
