"""What every tokenizer can do, and the rules about text and ids that all kinds share."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glassgpt.errors import TokenizerError

END_OF_TEXT = "<|endoftext|>"

IdArray = NDArray[np.unsignedinteger[Any]]


class Tokenizer(Protocol):
    """Text to ids and back. Text that looks like a special token is text: encoding never yields a special id."""

    kind: str
    """The name in `KINDS`: char, byte, bpe or gpt2."""

    vocab_size: int
    """Ids are 0 ... vocab_size - 1."""

    end_of_text: int | None
    """The id of `<|endoftext|>`, which stands between documents; None in the char vocabulary of a single text."""

    specials: dict[str, int]
    """The tokens that no text is encoded to, by name."""

    def encode(self, text: str) -> list[int]:
        """Raises TokenizerError for a character outside a char vocabulary, and for a lone surrogate."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[IdArray]:
        """The ids that `encode` gives, many texts at once and as arrays (dtype: `id_dtype`)."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Bytes that are not UTF-8 become U+FFFD. Raises TokenizerError for an id outside the vocabulary."""
        ...

    def token_bytes(self, id: int) -> bytes:
        """The bytes that one token stands for: `decode` joins these. Special tokens stand for their own name."""
        ...

    def to_json(self) -> str:
        """The tokenizer as the text of a tokenizer.json; equal tokenizers give equal texts."""
        ...


def id_dtype(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest dtype in which ids are kept on disk."""
    return np.uint16 if vocab_size <= 2**16 else np.uint32


def check_id(id: int, vocab_size: int) -> None:
    if not 0 <= id < vocab_size:
        raise TokenizerError(
            f"id {id} is outside the vocabulary: ids run from 0 to {vocab_size - 1}; "
            "use the tokenizer that the ids were made with"
        )


def to_utf8(text: str) -> bytes:
    """The text's bytes; TokenizerError for a lone surrogate (half of a UTF-16 pair), which has none, and which also stands for
    a byte of standard input or of an argument that is not UTF-8."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        position = error.start
    if "\udc80" <= text[position] <= "\udcff":
        raise TokenizerError(
            f"the text is not UTF-8: after {position} characters comes the byte 0x{ord(text[position]) - 0xDC00:02x}; "
            "convert it to UTF-8"
        )
    raise TokenizerError(
        f"character {text[position]!r} (U+{ord(text[position]):04X}) at position {position} (counted from 0) is a lone "
        "surrogate, half of a character, which no text can hold; remove it"
    )
