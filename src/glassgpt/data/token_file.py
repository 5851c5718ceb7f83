"""The prepared folder: two files of token ids and everything that is needed to use them, written and read here.

train.bin, val.bin             ids, little-endian, uint16 where the vocabulary fits, else uint32; nothing else
train.documents.npy, val...    (documents, 2) int64: first token of each document, bytes of its text in UTF-8
train.marks.bin, val...        conversations: (tokens,) uint8, 1 where the model should say the token;
                               labels: (documents,) uint32, the number of each text's label
tokenizer.json                 turns ids into text again
template.json                  how conversations were written
meta.json                      DataMeta, written last: a folder without it was never finished
"""

import hashlib
import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from glassgpt.config.plain import parse_json, typed
from glassgpt.data.sources import Skipped, expanded
from glassgpt.disk import sha256_of, sync
from glassgpt.errors import DataError
from glassgpt.finetune import Task, Template, read_template
from glassgpt.tokenizer import Tokenizer, load_tokenizer

FORMAT_VERSION = 1
CHECKED_BYTES = 256 << 20  # files up to here are hashed at every opening: at most a fraction of a second

# The header of a .npy file with a (documents, 2) int64 array; spaces round its length up.
TABLE = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<i8', 'fortran_order': False, 'shape': \((\d{1,15}), 2\), \} *\n", re.S
)
LONGEST_HEADER, ROW_BYTES = 256, 16

Split = Literal["train", "val"]
SPLITS: tuple[Split, Split] = ("train", "val")
TEMPLATE = "template.json"


def file_names(task: Task) -> list[str]:
    """The files of a prepared folder, but for meta.json."""
    ends = [".bin", ".documents.npy"] + ([".marks.bin"] if task != "text" else [])
    return ["tokenizer.json", *([TEMPLATE] if task == "conversations" else []), *(s + e for s in SPLITS for e in ends)]


@dataclass(frozen=True, kw_only=True)
class SplitMeta:
    documents: int
    tokens: int  # end-of-text tokens between documents included
    source_bytes: int  # of the documents' text in UTF-8


@dataclass(frozen=True, kw_only=True)
class FileMeta:
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class DataMeta:
    """meta.json. Nothing in it depends on the time, the machine or the folder: the same text gives the same bytes."""

    format_version: int
    fingerprint: str  # of text, tokenizer settings and format: see prepare.fingerprint
    dtype: str
    vocab_size: int
    tokenizer_kind: str
    tokenizer_hash: str
    documents: int  # a single text is one, though it lies on both sides of the split
    train: SplitMeta
    val: SplitMeta
    task: Task = "text"
    labels: tuple[str, ...] = ()  # in the order of their numbers
    baseline_bits_per_byte: float | None  # what counting byte n-grams reaches: see counting.py
    baseline_order: int
    baseline_accuracy: float | None = None  # of labels: what always saying the commonest one reaches
    sources: tuple[str, ...]
    text_field: str
    skipped: tuple[Skipped, ...]
    files: dict[str, FileMeta]

    @property
    def content_hash(self) -> str:
        """sha256 over whatever training sees, and nothing else: tokens, split and tokenizer; of examples also where each
        begins, their marks and labels."""
        names = ["train.bin", "val.bin"]
        if self.task != "text":
            names += [f"{split}{end}" for end in (".documents.npy", ".marks.bin") for split in SPLITS]
        parts = [self.tokenizer_hash, *(self.files[name].sha256 for name in names)]
        parts += [json.dumps(self.labels)] if self.labels else []
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError where the text is not what to_json writes."""
        meta: Self = typed(cls, parse_json(text), "it")
        return meta


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 as long as every id fits, else uint32; little-endian on every machine."""
    if vocab_size > 1 << 32:
        raise DataError(f"a vocabulary of {vocab_size} does not fit into 32 bits; use a smaller one")
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


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
            table = np.stack([np.frombuffer(self.starts, np.int64), np.frombuffer(self.source_bytes, np.int64)], axis=1)
            np.save(self.documents_path, table.astype("<i8"))

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


def file_meta(path: Path) -> FileMeta:
    return FileMeta(bytes=path.stat().st_size, sha256=sha256_of(path))


def write_meta(folder: Path, names: Sequence[str], **fields: Any) -> DataMeta:
    """Seal a folder: sync its files, then write their sizes and hashes and `fields` to meta.json."""
    for name in names:
        sync(folder / name)
    meta = DataMeta(files={name: file_meta(folder / name) for name in sorted(names)}, **fields)
    (folder / "meta.json").write_text(meta.to_json(), encoding="utf-8", newline="\n")
    sync(folder / "meta.json")
    sync(folder)
    return meta


@dataclass(frozen=True, eq=False)
class DataFolder:
    """A prepared folder, checked. `train` and `val` are memory maps (tokens,), `*_documents` (documents, 2) int64, `*_marks`
    what is described above; there are none for plain text."""

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
    meta = _load_meta(folder)
    for name, expected in meta.files.items():
        path = folder / name
        if not path.is_file():
            raise _damaged(path, "it is missing")
        if (size := path.stat().st_size) != expected.bytes:
            raise _damaged(path, f"it has {size} bytes, {expected.bytes} were written")
        if (verify or size <= CHECKED_BYTES) and file_meta(path) != expected:
            raise _damaged(path, "its sha256 differs from the one that was written")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split in SPLITS:
        expected_tokens = getattr(meta, split).tokens
        tokens = arrays[split] = _mapped(folder / f"{split}.bin", np.dtype(meta.dtype), meta.vocab_size)
        if len(tokens) != expected_tokens:
            raise _damaged(folder / "meta.json", f"it says {expected_tokens} {split} tokens, there are {len(tokens)}")
        documents = arrays[f"{split}_documents"] = _documents(folder / f"{split}.documents.npy", len(tokens))
        if len(documents) != getattr(meta, split).documents:
            raise _damaged(
                folder / "meta.json", f"there are {len(documents)} {split} documents, it says another number"
            )
        if meta.task != "text":
            name = f"{split}.marks.bin"
            marks = _mapped(folder / name, MARKS[meta.task], len(meta.labels) if meta.task == "labels" else 2)
            wanted = len(documents if meta.task == "labels" else tokens)
            if len(marks) != wanted:
                raise _damaged(folder / name, f"it has {len(marks)} marks for {wanted}")
            arrays[f"{split}_marks"] = marks
    return DataFolder(folder, meta, **arrays)


def _mapped(path: Path, dtype: np.dtype[Any], below: int) -> npt.NDArray[Any]:
    """A memory map of numbers that are all smaller than `below`; a file so large that it is not hashed is not searched for
    larger ones either."""
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise _damaged(path, f"its {size} bytes are no whole number of {dtype.itemsize}")
    numbers = np.memmap(path, dtype, "r") if size else np.empty(0, dtype)  # no empty file can be mapped
    if 0 < size <= CHECKED_BYTES and int(numbers.max()) >= below:
        raise _damaged(path, f"it holds the number {numbers.max()}, and only those below {below} are known")
    return numbers


def _documents(path: Path, tokens: int) -> npt.NDArray[np.int64]:
    """As np.load, but of nothing but what np.save writes for such a table: the header is a Python expression, and what
    comes of a damaged one is not for numpy to find out."""
    with path.open("rb") as file:
        header = TABLE.match(file.read(LONGEST_HEADER))
    rows = int(header[1]) if header else -1
    if header is None or path.stat().st_size != header.end() + rows * ROW_BYTES:
        raise _damaged(path, "it is no table of two whole numbers a document")
    table = np.memmap(path, "<i8", "r", header.end(), (rows, 2)) if rows else np.empty((0, 2), np.int64)
    starts = np.append(table[:, 0], tokens)
    if starts[0] != 0 or (np.diff(starts) < 0).any() or (len(table) and int(table[:, 1].min()) < 0):
        raise _damaged(path, f"its documents do not follow each other from token 0 to {tokens}")
    return table


def _load_meta(folder: Path) -> DataMeta:
    path = folder / "meta.json"
    if not path.is_file():
        raise DataError(f"{folder} is no prepared folder: there is no meta.json in it; run `glassgpt prepare` first")
    try:
        text = path.read_text(encoding="utf-8")
        content = parse_json(text)
        version = content.get("format_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version != FORMAT_VERSION:
            raise DataError(
                f"{path} is of format {version}, this GlassGPT reads {FORMAT_VERSION}; prepare the text again"
            )
        meta = DataMeta.from_json(text)
    except ValueError as problem:
        raise _damaged(path, f"it is not what GlassGPT writes ({problem})") from None
    needed = file_names(meta.task)
    if set(meta.files) != set(needed):
        raise _damaged(path, f"it must list exactly {', '.join(sorted(needed))}")
    if meta.dtype != token_dtype(meta.vocab_size).str:
        raise _damaged(path, f"dtype {meta.dtype!r} does not fit vocab_size {meta.vocab_size}")
    return meta


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}; delete {path.parent} and prepare the text again")
