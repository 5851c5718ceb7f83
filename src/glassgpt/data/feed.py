"""What the loop is fed with: windows of plain text, or examples, whichever the prepared folder holds."""

from collections.abc import Iterator

from glassgpt.data.batches import Batch, Batches, validation_windows
from glassgpt.data.examples import Examples
from glassgpt.data.folder import DataFolder


def training_batches(data: DataFolder, context_length: int, seed: int) -> Batches | Examples:
    """Raises DataError where the text is too short for one batch."""
    if data.meta.task == "text":
        return Batches(data.train, context_length, seed)
    return Examples(data, "train", context_length, seed)


def validation_batches(data: DataFolder, context_length: int, positions: int) -> Iterator[Batch]:
    """All there is to validate with, once, about so many positions at a time."""
    if data.meta.task == "text":
        return validation_windows(data.val, context_length, max(1, positions // context_length))
    return Examples(data, "val", context_length, seed=0).in_order(positions)


def validation_tokens(data: DataFolder, context_length: int) -> int:
    """How many tokens all of them read."""
    if data.meta.task == "text":
        return len(data.val)
    return int(Examples(data, "val", context_length, seed=0).lengths.sum())
