"""A prepared folder, opened: checked, and its token ids mapped into memory."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glassgpt.data.meta import SPLITS, TEMPLATE, DataMeta, damaged, file_meta, read_meta
from glassgpt.data.sources import expanded
from glassgpt.data.token_file import MARKS
from glassgpt.errors import DataError
from glassgpt.finetune import Template, read_template
from glassgpt.tokenizer import Tokenizer, load_tokenizer

CHECKED_BYTES = 256 << 20  # files up to here are hashed at every opening: at most a fraction of a second

# The header of a .npy file with a (documents, 2) int64 array; spaces round its length up.
TABLE = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<i8', 'fortran_order': False, 'shape': \((\d{1,15}), 2\), \} *\n", re.S
)
LONGEST_HEADER, ROW_BYTES = 256, 16


@dataclass(frozen=True, eq=False)
class DataFolder:
    """A prepared folder, checked. `train` and `val` are memory maps (tokens,), `*_documents` (documents, 2) int64, `*_marks`
    as token_file.py describes them; there are none for plain text."""

    path: Path
    meta: DataMeta
    train: npt.NDArray[Any]
    val: npt.NDArray[Any]
    train_documents: npt.NDArray[np.int64]
    val_documents: npt.NDArray[np.int64]
    train_marks: npt.NDArray[Any] | None = None
    val_marks: npt.NDArray[Any] | None = None

    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.path / "tokenizer.json")

    def template(self) -> Template | None:
        """How its conversations are written; None where it holds none."""
        if self.meta.task != "conversations":
            return None
        return read_template((self.path / TEMPLATE).read_bytes(), str(self.path / TEMPLATE))

    @cached_property
    def token_lengths(self) -> npt.NDArray[np.int64]:
        """(V,) bytes of text that each token stands for; a special one stands for none."""
        tokenizer = self.tokenizer()
        special = set(tokenizer.specials.values())
        return np.array([0 if i in special else len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)])

    @cached_property
    def scored_bytes(self) -> int:
        """Bytes of the original validation text that are scored when every window is: all but those of the first token.

        bits_per_byte is all nats of those windows, separators included, over ln 2 and this.
        """
        return self.meta.val.source_bytes - len(self.tokenizer().token_bytes(int(self.val[0])))

    def require_windows(self, context_length: int) -> None:
        """Raises DataError unless training holds one window of context_length and validation one target. Conversations and
        texts with labels need no full window."""
        if self.meta.task != "text":
            return
        if len(self.train) <= context_length:
            advice = f"lower context_length to at most {len(self.train) - 1}, or " if len(self.train) > 1 else ""
            raise DataError(
                f"the training text has {len(self.train)} tokens, one window of context_length {context_length} needs "
                f"{context_length + 1}; {advice}give more text"
            )
        if len(self.val) < 2:
            raise DataError(f"the validation text has {len(self.val)} tokens, it needs 2; give more text")


def load_data(folder: str | Path, verify: bool = False) -> DataFolder:
    """Open a prepared folder. Sizes are always checked, sha256 for files up to 256 MB, or for all with `verify`.

    Raises DataError naming the file that is missing, damaged or of another version.
    """
    folder = expanded(folder)
    meta = read_meta(folder)
    for name, expected in meta.files.items():
        path = folder / name
        if not path.is_file():
            raise damaged(path, "it is missing")
        if (size := path.stat().st_size) != expected.bytes:
            raise damaged(path, f"it has {size} bytes, {expected.bytes} were written")
        if (verify or size <= CHECKED_BYTES) and file_meta(path) != expected:
            raise damaged(path, "its sha256 differs from the one that was written")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split in SPLITS:
        expected_tokens = getattr(meta, split).tokens
        tokens = arrays[split] = _mapped(folder / f"{split}.bin", np.dtype(meta.dtype), meta.vocab_size)
        if len(tokens) != expected_tokens:
            raise damaged(folder / "meta.json", f"it says {expected_tokens} {split} tokens, there are {len(tokens)}")
        documents = arrays[f"{split}_documents"] = _documents(folder / f"{split}.documents.npy", len(tokens))
        if len(documents) != getattr(meta, split).documents:
            raise damaged(folder / "meta.json", f"there are {len(documents)} {split} documents, it says another number")
        if meta.task != "text":
            name = f"{split}.marks.bin"
            marks = _mapped(folder / name, MARKS[meta.task], len(meta.labels) if meta.task == "labels" else 2)
            wanted = len(documents if meta.task == "labels" else tokens)
            if len(marks) != wanted:
                raise damaged(folder / name, f"it has {len(marks)} marks for {wanted}")
            arrays[f"{split}_marks"] = marks
    return DataFolder(folder, meta, **arrays)


def _mapped(path: Path, dtype: np.dtype[Any], below: int) -> npt.NDArray[Any]:
    """A memory map of numbers that are all smaller than `below`; a file so large that it is not hashed is not searched for
    larger ones either."""
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise damaged(path, f"its {size} bytes are no whole number of {dtype.itemsize}")
    numbers = np.memmap(path, dtype, "r") if size else np.empty(0, dtype)  # no empty file can be mapped
    if 0 < size <= CHECKED_BYTES and int(numbers.max()) >= below:
        raise damaged(path, f"it holds the number {numbers.max()}, and only those below {below} are known")
    return numbers


def _documents(path: Path, tokens: int) -> npt.NDArray[np.int64]:
    """As np.load, but of nothing but what np.save writes for such a table: the header is a Python expression, and what
    comes of a damaged one is not for numpy to find out."""
    with path.open("rb") as file:
        header = TABLE.match(file.read(LONGEST_HEADER))
    rows = int(header[1]) if header else -1
    if header is None or path.stat().st_size != header.end() + rows * ROW_BYTES:
        raise damaged(path, "it is no table of two whole numbers a document")
    table = np.memmap(path, "<i8", "r", header.end(), (rows, 2)) if rows else np.empty((0, 2), np.int64)
    starts = np.append(table[:, 0], tokens)
    if starts[0] != 0 or (np.diff(starts) < 0).any() or (len(table) and int(table[:, 1].min()) < 0):
        raise damaged(path, f"its documents do not follow each other from token 0 to {tokens}")
    return table
