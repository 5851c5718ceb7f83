"""Which part of a corpus is for training and which for validation: decided by the text alone, so always the same."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from glassgpt.errors import DataError

VALIDATION_SHARE = 0.1


def split_character(characters: int) -> int:
    """A single text: the first int(0.9 n) characters are for training (char-rnn's and nanoGPT's split)."""
    cut = int((1 - VALIDATION_SHARE) * characters)
    if not 0 < cut < characters:
        raise DataError(
            f"a text of {characters} characters cannot be split into training and validation; give more text"
        )
    return cut


def split_documents(name_hashes: Sequence[int], sizes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """(documents,) -> (documents,) bool: True where a document is for validation. Needs at least two documents.

    In the order of their name's hashes, each document joins validation if that brings the bytes of validation nearer to
    a tenth of all. A document that alone is more than half of that tenth is left for training, so that one large file
    does not decide what validation is like, unless the others come to less than half of it; where every document is too
    large, the smallest one joins. So validation never holds more than half, training never nothing, and a document added
    to a folder moves few others.
    """
    assert len(sizes) > 1, "a single text is split by character"
    target = VALIDATION_SHARE * sum(sizes)
    order = np.argsort(np.asarray(name_hashes, np.uint64), kind="stable")
    chosen = _nearest_to(target, [i for i in order if sizes[i] <= target / 2], sizes)
    if sum(np.asarray(sizes)[chosen]) < target / 2:
        chosen = _nearest_to(target, order, sizes)
    if not chosen.any():
        chosen[np.argmin(sizes)] = True
    return chosen


def split_labelled(name_hashes: Sequence[int], label_numbers: Sequence[int]) -> npt.NDArray[np.bool_]:
    """As `split_documents`, of texts with labels: of each label a tenth, in the order of their name's hashes, so that what is
    rare is neither all learned nor all asked. A label's only text is learned."""
    labels, order = np.asarray(label_numbers), np.argsort(np.asarray(name_hashes, np.uint64), kind="stable")
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        its = order[labels[order] == label]
        chosen[its[: max(round(VALIDATION_SHARE * len(its)), int(len(its) > 1))]] = True
    if not chosen.any():
        chosen[order[0]] = True
    return chosen


def _nearest_to(target: float, order: Iterable[int], sizes: Sequence[int]) -> npt.NDArray[np.bool_]:
    chosen, held = np.zeros(len(sizes), bool), 0
    for i in order:
        if abs(held + sizes[i] - target) < abs(held - target):
            chosen[i] = True
            held += sizes[i]
    return chosen


def up_to(pieces: Iterator[str], cut: int) -> Iterator[str]:
    """The first `cut` characters of a text in pieces."""
    for piece in pieces:
        if cut > 0:
            yield piece[:cut]
        cut -= len(piece)
        if cut <= 0:
            return


def from_on(pieces: Iterator[str], cut: int) -> Iterator[str]:
    """A text in pieces without its first `cut` characters."""
    for piece in pieces:
        if cut < len(piece):
            yield piece[max(cut, 0) :]
        cut -= len(piece)
