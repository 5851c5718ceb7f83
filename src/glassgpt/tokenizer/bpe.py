"""Byte-pair encoding: frequent neighbours become one token. Trained and applied by the `tokenizers` library.

Text is first split into words as GPT-2 does (contractions, letters, digits, other characters, each with the space
before it, and runs of whitespace); pairs are merged inside words only, the most frequent of the corpus first.
Source: Sennrich et al. 2016 (arXiv:1508.07909); Radford et al. 2019, section 2.2.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from glassgpt.errors import TokenizerError
from glassgpt.tokenizer.base import END_OF_TEXT, IdArray, id_dtype, to_utf8
from glassgpt.tokenizer.byte import BYTE_ALPHABET, ByteLevelTokenizer, Merge, is_gpt2_style, read_byte_level
from glassgpt.tokenizer.document import Document

DEFAULT_VOCAB_SIZE = 4096
MIN_VOCAB_SIZE = len(BYTE_ALPHABET) + 1

# In characters. The library needs some 200 bytes a character for what it encodes at once, and has to be handed many
# texts of a similar size to keep every core busy.
PIECE_LENGTH = 2**16
BATCH_LENGTH = 2**22
# Learning takes the square of a word's length, and would never end on a million letters. It is handed pieces that
# stop at the first end of a word past this length; a word that fills twice as much is cut, at the loss of one pair.
TRAINING_PIECE_LENGTH = 2**12


class BpeTokenizer(ByteLevelTokenizer):
    def __init__(
        self, vocabulary: Mapping[str, int], specials: Mapping[str, int], merges: Sequence[Merge], kind: str = "bpe"
    ) -> None:
        super().__init__(vocabulary, specials, merges)
        self.kind = kind
        # The special tokens are unknown to this encoder, so that text which looks like one stays text.
        self._encoder = _encoder(models.BPE(vocab=self._vocabulary, merges=self._merges))

    def encode(self, text: str) -> list[int]:
        if len(text) <= PIECE_LENGTH:
            to_utf8(text)
            return self._encoder.encode(text).ids
        ids: list[int] = self.encode_batch([text])[0].tolist()
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[IdArray]:
        dtype = id_dtype(self.vocab_size)
        pieces_of_text: list[list[IdArray]] = [[] for _ in texts]
        for batch in _batches(texts):
            encodings = self._encoder.encode_batch_fast([piece for _, piece in batch])
            for (index, _), encoding in zip(batch, encodings, strict=True):
                pieces_of_text[index].append(np.array(encoding.ids, dtype=dtype))
        return [np.concatenate([np.array([], dtype=dtype), *pieces]) for pieces in pieces_of_text]


def _batches(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Pieces of the texts, each with the index of its text, in batches of about BATCH_LENGTH characters."""
    batch, length = [], 0
    for index, text in enumerate(texts):
        to_utf8(text)
        for piece in split_text(text, PIECE_LENGTH):
            batch.append((index, piece))
            length += len(piece)
            if length >= BATCH_LENGTH:
                yield batch
                batch, length = [], 0
    yield batch


_WORD_END = re.compile(r"(?<=\S)(?=[ \t\n\r])")


def split_text(text: str, length: int) -> Iterator[str]:
    """Pieces of at least `length` characters (but the last) whose ids are together the ids of the text.

    A word of GPT-2's pattern has whitespace at its beginning or is whitespace, so that one always ends between another
    character and whitespace. The words before that place do not depend on what follows it, because the pattern looks
    ahead only from whitespace. (What Python's \\S matches is not whitespace for the pattern either.)
    """
    start = 0
    while end := _WORD_END.search(text, start + length):
        yield text[start : end.start()]
        start = end.start()
    yield text[start:]


def _encoder(model: models.BPE) -> tokenizers.Tokenizer:
    encoder = tokenizers.Tokenizer(model)
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    encoder.decoder = decoders.ByteLevel()
    return encoder


def build_bpe(
    texts: Callable[[], Iterator[str]], vocab_size: int | None, single_text: bool, report: Callable[[str], None]
) -> BpeTokenizer:
    """Learns merges from the corpus until there are `vocab_size` tokens, the 256 bytes and `<|endoftext|>` included.

    `<|endoftext|>` has the last id. A corpus in which no pair is left that occurs twice gives fewer tokens. The same
    corpus gives the same tokenizer: of equally frequent pairs the library takes the one with the smallest ids.
    """
    vocab_size = DEFAULT_VOCAB_SIZE if vocab_size is None else vocab_size
    if vocab_size < MIN_VOCAB_SIZE:
        raise TokenizerError(
            f"vocab_size {vocab_size} is too small for bpe: the 256 bytes and {END_OF_TEXT} take {MIN_VOCAB_SIZE}; "
            "raise it, or use byte"
        )
    report(f"learning a vocabulary of {vocab_size:,} tokens from the corpus")
    learner = _encoder(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, min_frequency=2, initial_alphabet=BYTE_ALPHABET, show_progress=False
    )
    learner.train_from_iterator(_training_pieces(texts()), trainer)
    merges = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    vocabulary = vocabulary_of(merges)
    tokenizer = BpeTokenizer(vocabulary, {END_OF_TEXT: vocabulary[END_OF_TEXT]}, merges)
    if tokenizer.vocab_size < vocab_size:
        report(f"the corpus is small: {tokenizer.vocab_size:,} tokens, then no two neighbours in a word occur twice")
    return tokenizer


def _training_pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        to_utf8(text)
        for piece in split_text(text, TRAINING_PIECE_LENGTH):
            for start in range(0, len(piece), 2 * TRAINING_PIECE_LENGTH):
                yield piece[start : start + 2 * TRAINING_PIECE_LENGTH]


def vocabulary_of(merges: Iterable[Merge]) -> dict[str, int]:
    """Bytes in GPT-2's order (that of the characters that spell them), then one token a merge, then `<|endoftext|>`."""
    tokens = dict.fromkeys([*sorted(BYTE_ALPHABET), *(left + right for left, right in merges), END_OF_TEXT])
    return {token: id for id, token in enumerate(tokens)}


def read_bpe(document: Document) -> BpeTokenizer | None:
    """The byte-level BPE tokenizer in a tokenizer.json, or None where that holds another kind."""
    if not is_gpt2_style(document):
        return None
    return BpeTokenizer(*read_byte_level(document))
