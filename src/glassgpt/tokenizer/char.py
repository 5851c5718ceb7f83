"""One token for each character (Unicode code point) that the corpus holds, in the order of their code points."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from glassgpt.errors import TokenizerError
from glassgpt.tokenizer.base import END_OF_TEXT, IdArray, check_id, id_dtype, to_utf8
from glassgpt.tokenizer.document import Document, model_type, read_specials, read_vocabulary, require, write_document

# A word-level vocabulary over words of one character. `[\s\S]` rather than a dot, which leaves newlines out.
_PRE_TOKENIZER = {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": False}
_DECODER = {"type": "Fuse"}
# The library wants a name here. It stands in no vocabulary, so that an unknown character fails there as it does here.
_MODEL = {"type": "WordLevel", "unk_token": "<unk>"}


class CharTokenizer:
    kind = "char"

    def __init__(self, vocabulary: Mapping[str, int], specials: Mapping[str, int]) -> None:
        """`vocabulary` maps every token to its id, 0 ... n - 1 in order, the special ones included."""
        self._vocabulary = dict(vocabulary)
        self.specials = dict(specials)
        self._tokens = list(self._vocabulary)
        self.vocab_size = len(self._tokens)
        self.end_of_text = self.specials.get(END_OF_TEXT)

        characters = [token for token in self._tokens if token not in self.specials]
        self._character_count = len(characters)
        # From code point to id, -1 where there is none; one entry past the last character stands for all above it.
        self._id_of_code_point = np.full(max(map(ord, characters), default=0) + 2, -1, dtype=np.int32)
        for character in characters:
            self._id_of_code_point[ord(character)] = self._vocabulary[character]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._encode(text).tolist()
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[IdArray]:
        return [self._encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        for id in ids:
            check_id(id, self.vocab_size)
        return "".join([self._tokens[id] for id in ids])

    def token_bytes(self, id: int) -> bytes:
        check_id(id, self.vocab_size)
        return self._tokens[id].encode("utf-8")

    def to_json(self) -> str:
        return write_document(_MODEL, self._vocabulary, self.specials, _PRE_TOKENIZER, _DECODER)

    def _encode(self, text: str) -> IdArray:
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        ids = self._id_of_code_point[np.minimum(code_points, len(self._id_of_code_point) - 1)]
        if len(ids) and ids.min() < 0:
            to_utf8(text)
            position = int(ids.argmin())
            raise TokenizerError(
                f"character {text[position]!r} (U+{ord(text[position]):04X}) at position {position} (counted from 0) "
                f"is not one of the {self._character_count} characters of this vocabulary; leave it out, or take a "
                "model with the tokenizer byte or bpe, which know every character"
            )
        known: IdArray = ids.astype(id_dtype(self.vocab_size))
        return known


def build_char(
    texts: Callable[[], Iterator[str]], vocab_size: int | None, single_text: bool, report: Callable[[str], None]
) -> CharTokenizer:
    """The corpus's characters; `<|endoftext|>` comes last, unless a single text has no ends between documents."""
    characters = sorted(_characters(texts()))
    if not characters:
        raise TokenizerError("the corpus is empty, and a char vocabulary is made of its characters; pass some text")
    specials = {} if single_text else {END_OF_TEXT: len(characters)}
    return CharTokenizer({character: id for id, character in enumerate(characters)} | specials, specials)


def _characters(texts: Iterable[str]) -> set[str]:
    characters: set[str] = set()
    for text in texts:
        to_utf8(text)
        characters.update(text)
    return characters


def read_char(document: Document) -> CharTokenizer | None:
    """The char tokenizer in a tokenizer.json, or None where that holds another kind."""
    if model_type(document) != "WordLevel":
        return None
    if document.get("pre_tokenizer") != _PRE_TOKENIZER or document.get("decoder") != _DECODER:
        raise TokenizerError("its WordLevel vocabulary is not of single characters; no other is supported")
    require(document.get("normalizer") is None, "its normalizer changes the text before it is encoded")
    vocabulary, specials = read_vocabulary(document), read_specials(document)
    for token in vocabulary:
        require(len(token) == 1 or token in specials, f"{token!r} in a vocabulary of characters is not one character")
    return CharTokenizer(vocabulary, specials)
