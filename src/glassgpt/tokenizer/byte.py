"""Tokens that stand for bytes, and the simplest such vocabulary: the 256 bytes themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from glassgpt.errors import TokenizerError
from glassgpt.tokenizer.base import END_OF_TEXT, IdArray, check_id, id_dtype, to_utf8
from glassgpt.tokenizer.document import Document, model_type, read_specials, read_vocabulary, require, write_document

Merge = tuple[str, str]


def _byte_alphabet() -> list[str]:
    """For each byte the character that stands for it in a tokenizer.json, where raw bytes cannot be written.

    Printable Latin-1 characters stand for themselves, the other bytes for U+0100, U+0101, ... in turn: space is `Ġ`,
    newline `Ċ`. Source: `bytes_to_unicode` in OpenAI's gpt-2 `encoder.py`.
    """
    alphabet, others = [], 0
    for byte in range(256):
        if chr(byte).isprintable() and chr(byte) != " ":
            alphabet.append(chr(byte))
        else:
            alphabet.append(chr(256 + others))
            others += 1
    return alphabet


BYTE_ALPHABET = _byte_alphabet()
BYTE_OF = {character: byte for byte, character in enumerate(BYTE_ALPHABET)}

_MODEL = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


class TokensOfBytes:
    """Tokens that are strings of bytes: `_bytes` holds each one's, and ids are read back by joining them."""

    vocab_size: int
    _bytes: list[bytes]

    def decode(self, ids: Sequence[int]) -> str:
        for id in ids:
            check_id(id, self.vocab_size)
        return b"".join([self._bytes[id] for id in ids]).decode("utf-8", errors="replace")

    def token_bytes(self, id: int) -> bytes:
        check_id(id, self.vocab_size)
        return self._bytes[id]


class ByteLevelTokenizer(TokensOfBytes):
    """What byte, bpe and gpt2 share: every token but the special ones is a string of bytes, and every text has ids."""

    kind: str

    def __init__(
        self, vocabulary: Mapping[str, int], specials: Mapping[str, int], merges: Sequence[Merge] = ()
    ) -> None:
        """Tokens are spelled in `BYTE_ALPHABET` (special ones as they are), with ids 0 ... n - 1 in order."""
        self._vocabulary = dict(vocabulary)
        self.specials = dict(specials)
        self._merges = list(merges)
        self._bytes = [
            token.encode("utf-8") if token in self.specials else bytes([BYTE_OF[character] for character in token])
            for token in self._vocabulary
        ]
        self.vocab_size = len(self._bytes)
        self.end_of_text = self.specials.get(END_OF_TEXT)

    def to_json(self) -> str:
        # Merges as "a b", not as pairs: every version of every reader knows this form, and no token holds a space.
        model = {**_MODEL, "merges": [f"{left} {right}" for left, right in self._merges]}
        return write_document(model, self._vocabulary, self.specials, _BYTE_LEVEL, _BYTE_LEVEL)


class ByteTokenizer(ByteLevelTokenizer):
    """UTF-8 as it is: the id of a byte is the byte, and `<|endoftext|>` is 256."""

    kind = "byte"

    def __init__(self) -> None:
        super().__init__(_byte_vocabulary(), specials={END_OF_TEXT: 256})

    def encode(self, text: str) -> list[int]:
        return list(to_utf8(text))

    def encode_batch(self, texts: Sequence[str]) -> list[IdArray]:
        return [np.frombuffer(to_utf8(text), dtype=np.uint8).astype(id_dtype(self.vocab_size)) for text in texts]


def _byte_vocabulary() -> dict[str, int]:
    return {token: id for id, token in enumerate([*BYTE_ALPHABET, END_OF_TEXT])}


def build_byte(
    texts: Callable[[], Iterator[str]], vocab_size: int | None, single_text: bool, report: Callable[[str], None]
) -> ByteTokenizer:
    """The same for every corpus."""
    return ByteTokenizer()


def read_byte(document: Document) -> ByteTokenizer | None:
    """The byte tokenizer in a tokenizer.json, or None where that holds another kind."""
    if not is_gpt2_style(document) or document["model"].get("merges"):
        return None
    vocabulary, specials, _ = read_byte_level(document)
    is_byte = vocabulary == _byte_vocabulary() and specials == {END_OF_TEXT: 256}
    return ByteTokenizer() if is_byte else None


def is_gpt2_style(document: Document) -> bool:
    """Whether a tokenizer.json splits text and spells bytes as GPT-2's does; published.py reads the others."""
    splitter, decoder = document.get("pre_tokenizer"), document.get("decoder")
    if model_type(document) != "BPE" or document.get("normalizer") is not None:
        return False
    if not isinstance(splitter, dict) or not isinstance(decoder, dict):
        return False
    plain = not splitter.get("add_prefix_space") and splitter.get("use_regex", True)
    return bool(splitter.get("type") == decoder.get("type") == "ByteLevel" and plain)


def read_byte_level(document: Document) -> tuple[dict[str, int], dict[str, int], list[Merge]]:
    """Vocabulary, special tokens and merges of a tokenizer.json in GPT-2's style."""
    model = document["model"]
    for option, plain in _MODEL.items():
        if option not in ("type", "unk_token", "fuse_unk") and (model.get(option) or plain) != plain:
            raise TokenizerError(f"its model sets {option}, which GPT-2's does not and which is not supported")

    vocabulary, specials = read_vocabulary(document), read_specials(document)
    for token in vocabulary:
        spelled = token != "" and all(character in BYTE_OF for character in token)
        require(spelled or token in specials, f"token {token!r} is not spelled in the alphabet of ByteLevel")
    absent = [byte for byte, character in enumerate(BYTE_ALPHABET) if character not in vocabulary]
    require(not absent, f"{len(absent)} of the 256 bytes have no token, so that some texts would have no ids")
    return vocabulary, specials, _read_merges(model.get("merges"), vocabulary, specials)


def _read_merges(merges: object, vocabulary: Mapping[str, int], specials: Mapping[str, int]) -> list[Merge]:
    if not isinstance(merges, list):
        raise TokenizerError('"merges" is damaged')
    pairs = []
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        require(
            isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts),
            f"merge {merge!r} is not a pair of tokens",
        )
        left, right = parts
        for token in (left, right, left + right):
            known = token in vocabulary and token not in specials
            require(known, f"merge {merge!r}: {token!r} is not in the vocabulary")
        pairs.append((left, right))
    return pairs
