"""Other byte-level BPE tokenizers, such as Qwen's: their own rules of splitting and normalising, run by the `tokenizers`
library from the tokenizer.json that they were published as. They are read, never built."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers

from glassgpt.errors import TokenizerError
from glassgpt.tokenizer.base import END_OF_TEXT, IdArray, id_dtype, to_utf8
from glassgpt.tokenizer.byte import BYTE_ALPHABET, BYTE_OF, TokensOfBytes
from glassgpt.tokenizer.document import Document, model_type, require


class PublishedTokenizer(TokensOfBytes):
    kind = "published"

    def __init__(self, document: Document) -> None:
        """`document` is a whole tokenizer.json whose tokens, but for the added ones, are bytes in GPT-2's spelling."""
        # Truncation and padding are for batches of a fixed size, and a post-processor adds tokens that nobody wrote.
        self._document = {**document, "truncation": None, "padding": None, "post_processor": None}
        try:
            self._encoder = tokenizers.Tokenizer.from_str(json.dumps(self._document))
        except BaseException as error:  # the library raises nothing narrower, and its panics are no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise TokenizerError(f"the tokenizers library cannot read it ({error})") from None
        self._encoder.encode_special_tokens = True  # text that looks like a special token is text
        added = {token["content"]: token["id"] for token in document.get("added_tokens") or []}
        self.specials = {t["content"]: t["id"] for t in document.get("added_tokens") or [] if t.get("special")}
        tokens = self._encoder.get_vocab(with_added_tokens=True)
        absent = [character for character in BYTE_ALPHABET if character not in tokens]
        require(not absent, f"{len(absent)} of the 256 bytes have no token, so that some texts would have no ids")
        self.vocab_size = max(tokens.values()) + 1
        require(
            self.vocab_size < 2 * len(tokens) + 1000, f"its ids reach {self.vocab_size - 1} for {len(tokens)} tokens"
        )
        self._bytes = [b""] * self.vocab_size  # some files leave ids unused
        for token, id in tokens.items():
            known = token in added or all(character in BYTE_OF for character in token)
            require(known, f"token {token!r} is not spelled in the alphabet of ByteLevel")
            self._bytes[id] = token.encode() if token in added else bytes([BYTE_OF[c] for c in token])
        self.end_of_text = added.get(END_OF_TEXT)

    def encode(self, text: str) -> list[int]:
        to_utf8(text)
        ids: list[int] = self._encoder.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[IdArray]:
        for text in texts:
            to_utf8(text)
        encodings = self._encoder.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=id_dtype(self.vocab_size)) for encoding in encodings]

    def to_json(self) -> str:
        return json.dumps(self._document, ensure_ascii=False, indent=2) + "\n"


def read_published(document: Document) -> PublishedTokenizer | None:
    """Any tokenizer.json whose model is BPE over bytes; None for another model."""
    if model_type(document) != "BPE":
        return None
    decoder = document.get("decoder")
    require(isinstance(decoder, dict) and decoder.get("type") == "ByteLevel", "its decoder is not ByteLevel")
    splitters = list(_parts(document.get("pre_tokenizer")))
    normalizer = document.get("normalizer")
    composed = normalizer is None or (isinstance(normalizer, dict) and normalizer.get("type") == "NFC")
    require(composed, "its normalizer changes the text otherwise than by composing characters (NFC)")
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):  # longer than a token, it makes the library panic
        require(not document["model"].get(affix), f"its model sets {affix}, which bytes do not have")
    spelled = [part for part in splitters if part.get("type") == "ByteLevel"]
    require(bool(spelled), "its pre_tokenizer does not spell text in bytes (ByteLevel)")
    require(
        not any(part.get("add_prefix_space") for part in splitters),
        "its pre_tokenizer sets add_prefix_space, which writes a space that is not in the text",
    )
    return PublishedTokenizer(document)


def _parts(part: Any) -> list[dict[str, Any]]:
    """A pre-tokenizer's steps; one that is no Sequence is its own only step."""
    if not isinstance(part, dict):
        return []
    steps = part.get("pretokenizers") if part.get("type") == "Sequence" else [part]
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
