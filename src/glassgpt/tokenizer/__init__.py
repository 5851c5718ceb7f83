"""Text to ids and back: char, byte, bpe and gpt2, all of them kept as the ecosystem's tokenizer.json."""

from glassgpt.tokenizer.base import END_OF_TEXT, IdArray, Tokenizer, id_dtype
from glassgpt.tokenizer.kinds import (
    KINDS,
    build_tokenizer,
    load_tokenizer,
    named_tokenizer,
    read_tokenizer,
    ready_tokenizer,
    require_fitting,
    save_tokenizer,
    tokenizer_hash,
)

__all__ = [
    "END_OF_TEXT",
    "KINDS",
    "IdArray",
    "Tokenizer",
    "build_tokenizer",
    "id_dtype",
    "load_tokenizer",
    "named_tokenizer",
    "read_tokenizer",
    "ready_tokenizer",
    "require_fitting",
    "save_tokenizer",
    "tokenizer_hash",
]
