"""The prepared folder: two files of token ids and everything that is needed to use them. Written here, sealed by
meta.py, opened by folder.py.

train.bin, val.bin             ids, little-endian, uint16 where the vocabulary fits, else uint32; nothing else
train.documents.npy, val...    (documents, 2) int64: first token of each document, bytes of its text in UTF-8
train.marks.bin, val...        conversations: (tokens,) uint8, 1 where the model should say the token;
                               labels: (documents,) uint32, the number of each text's label
tokenizer.json                 turns ids into text again
template.json                  how conversations were written
meta.json                      DataMeta, written last: a folder without it was never finished
"""

from array import array
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from glassgpt.data.meta import Split, SplitMeta, token_dtype
from glassgpt.errors import DataError
from glassgpt.finetune import Task
from glassgpt.tokenizer import Tokenizer

MARKS: dict[Task, np.dtype[Any]] = {"conversations": np.dtype("u1"), "labels": np.dtype("<u4")}


class TokenFileWriter:
    """Writes one split. `add` takes documents or pieces of them, and puts end-of-text tokens between texts; conversations and
    texts with labels stand for themselves."""

    def __init__(self, folder: Path, split: Split, tokenizer: Tokenizer, task: Task = "text") -> None:
        self.tokenizer, self.task = tokenizer, task
        self.dtype = token_dtype(tokenizer.vocab_size)
        self.starts, self.source_bytes = array("q"), array("q")
        self.tokens = 0
        self.documents_path = folder / f"{split}.documents.npy"
        self.file = (folder / f"{split}.bin").open("wb")
        self.marks_file = None if task == "text" else (folder / f"{split}.marks.bin").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if self.marks_file is not None:
            self.marks_file.close()
        if kind is None:
            columns = [np.frombuffer(self.starts, np.int64), np.frombuffer(self.source_bytes, np.int64)]
            table = np.stack(columns, axis=1).astype("<i8")
            with self.documents_path.open("wb") as file:
                # As np.save writes it, whose own error on a full disk does not say that it is one.
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(table))
                file.write(table.tobytes())

    def add(
        self, ids: npt.NDArray[Any], source_bytes: int, starts_document: bool, marks: npt.NDArray[Any] | None = None
    ) -> None:
        """(tokens,) ids of a text of `source_bytes` bytes, which begins a document or goes on with the last one. `marks`: one
        for each token of a conversation, or one label."""
        if marks is not None and self.marks_file is not None:
            self.marks_file.write(marks.astype(MARKS[self.task]).tobytes())
        if starts_document:
            if self.starts and self.task == "text" and self.tokenizer.end_of_text is not None:
                self._write(np.array([self.tokenizer.end_of_text]))
            self.starts.append(self.tokens)
            self.source_bytes.append(0)
        self.source_bytes[-1] += source_bytes
        self._write(ids)

    def _write(self, ids: npt.NDArray[Any]) -> None:
        if len(ids) and int(ids.max()) >= self.tokenizer.vocab_size:
            raise DataError(
                f"the tokenizer gave id {int(ids.max())}, its vocabulary ends at {self.tokenizer.vocab_size - 1}; "
                "its tokenizer.json is inconsistent, use another one"
            )
        self.file.write(ids.astype(self.dtype).tobytes())
        self.tokens += len(ids)

    @property
    def meta(self) -> SplitMeta:
        return SplitMeta(documents=len(self.starts), tokens=self.tokens, source_bytes=sum(self.source_bytes))
