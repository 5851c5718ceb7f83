"""Conversations and texts with labels -> batches: an example a row, from its first token on, filled up to the longest row.

What follows the last token of a row is seen by none of its own tokens, since the model looks back only; it is not scored.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from glassgpt.data.batches import IGNORE_INDEX, Batch, Order, as_batch, running_numbers
from glassgpt.data.folder import DataFolder
from glassgpt.data.meta import Split
from glassgpt.errors import DataError

Numbers = npt.NDArray[np.int64]


class Examples:
    """The examples of one side of the split. Of a conversation the first context_length + 1 tokens count, of a text with a
    label the first context_length; a conversation that has no token to learn among these is left out. `cut` and `left_out`
    say how many. Raises DataError where none remains."""

    def __init__(self, data: DataFolder, split: Split, context_length: int, seed: int) -> None:
        self.task = data.meta.task
        self.tokens = np.asarray(getattr(data, split))
        self.marks = np.asarray(getattr(data, f"{split}_marks"))
        starts = np.asarray(getattr(data, f"{split}_documents"))[:, 0].astype(np.int64)
        sizes = np.diff(starts, append=len(self.tokens))
        targets = 1 if self.task == "conversations" else 0  # tokens that are a target only: the last one
        self.cut = int((sizes > context_length + targets).sum())
        lengths = np.minimum(sizes - targets, context_length)
        numbers = np.flatnonzero(lengths > 0)
        if self.task == "conversations":
            marked = np.append(np.flatnonzero(self.marks), len(self.marks))
            first = marked[np.searchsorted(marked, starts[numbers] + 1)]  # the first target that is scored
            numbers = numbers[first <= starts[numbers] + lengths[numbers]]
        self.left_out = len(starts) - len(numbers)
        self.numbers, self.starts, self.lengths = numbers, starts[numbers], lengths[numbers]
        if not len(numbers):
            raise DataError(
                f"none of {len(starts)} {self.task} for {'training' if split == 'train' else 'validation'} has an answer "
                f"within context_length {context_length}; raise it, or give shorter ones"
            )
        self.order = Order(len(numbers), seed)

    def batch(self, step: int, batch_size: int, rows: slice | None = None) -> Batch:
        """Step `step` (from 0) in batches of `batch_size` examples; `rows` picks some rows of that one global batch."""
        return self.rows(self.order.at(running_numbers(step, batch_size, rows))[0])

    def places(self, step: int, batch_size: int) -> list[int]:
        """Which examples of the prepared folder, counted from 0, that one global batch holds."""
        return [int(number) for number in self.numbers[self.order.at(running_numbers(step, batch_size))[0]]]

    def tokens_in(self, step: int, batch_size: int) -> int:
        """How many tokens that one global batch reads, the filling left out."""
        return int(self.lengths[self.order.at(running_numbers(step, batch_size))[0]].sum())

    def in_order(self, positions: int) -> Iterator[Batch]:
        """Every example once, the longest first, in batches of about so many positions."""
        by_length = np.argsort(-self.lengths, kind="stable")
        first = 0
        while first < len(by_length):
            rows = max(1, positions // int(self.lengths[by_length[first]]))
            yield self.rows(by_length[first : first + rows])
            first += rows

    def rows(self, chosen: Numbers) -> Batch:
        """(B,) examples -> a batch (B, T), T the longest one's length."""
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        columns = np.arange(int(lengths.max()))
        is_token = columns < lengths[:, None]  # (B, T)
        positions = np.where(is_token, starts[:, None] + columns, starts[:, None])
        tokens = np.where(is_token, self.tokens[positions], 0)
        if self.task == "conversations":
            following = np.where(is_token, positions + 1, positions)
            learned = is_token & (self.marks[following] > 0)
            targets = np.where(learned, self.tokens[following].astype(np.int64), IGNORE_INDEX)
        else:
            targets = np.full(tokens.shape, IGNORE_INDEX, np.int64)
            targets[np.arange(len(chosen)), lengths - 1] = self.marks[self.numbers[chosen]]
        return as_batch(tokens, targets)
