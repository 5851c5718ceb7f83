"""A corpus in pieces, each on its side of the split; and as tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from glassgpt.data.corpus import Corpus
from glassgpt.data.documents import Document
from glassgpt.data.meta import Split
from glassgpt.data.split import from_on, split_character, split_documents, split_labelled, up_to
from glassgpt.data.text_pieces import PIECE_BYTES
from glassgpt.finetune import PLAIN, Template
from glassgpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Part:
    """A piece of a document, on its side of the split."""

    split: Split
    text: str
    starts_document: bool
    document: Document


class Parts:
    """The pieces of a corpus, each with its side of the split; can be iterated any number of times."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.cut = split_character(corpus.characters) if len(corpus) == 1 else 0
        self.for_validation = None
        if corpus.labels:
            self.for_validation = split_labelled(corpus.name_hashes, corpus.label_numbers)
        elif len(corpus) > 1:
            self.for_validation = split_documents(corpus.name_hashes, corpus.sizes)

    def __iter__(self) -> Iterator[Part]:
        for i, document in enumerate(self.corpus):
            if self.for_validation is None:
                yield from parts_of("train", document, up_to(document.pieces(), self.cut))
                yield from parts_of("val", document, from_on(document.pieces(), self.cut))
            elif i < len(self.for_validation):  # else the text has grown; the count of its bytes will tell
                yield from parts_of("val" if self.for_validation[i] else "train", document, document.pieces())


def parts_of(split: Split, document: Document, pieces: Iterator[str]) -> Iterator[Part]:
    for number, piece in enumerate(pieces):
        yield Part(split, piece, starts_document=number == 0, document=document)


def batched(parts: Parts) -> Iterator[list[Part]]:
    """About 8 MB at a time: enough to keep every core busy, little enough for any memory."""
    batch: list[Part] = []
    held = 0
    for part in parts:
        batch.append(part)
        held += len(part.text)
        if held >= PIECE_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def encode(
    batch: Sequence[Part], tokenizer: Tokenizer, template: Template | None, number_of: Mapping[str, int]
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
    """The ids of each part, and its marks (see token_file.py)."""
    if template is not None:
        for whole in template.encode(tokenizer, [part.document.messages for part in batch]):
            yield whole.ids, whole.scored
        return
    for part, ids in zip(batch, tokenizer.encode_batch([part.text for part in batch]), strict=True):
        label = part.document.label
        yield ids, None if label is None else np.array([number_of[label]])


def bytes_of_answers(document: Document) -> bytes:
    """For each byte of a conversation's text, 1 where it is part of an answer."""
    return b"".join(bytes([piece.scored]) * len(piece.text.encode()) for piece in PLAIN.text(document.messages))
