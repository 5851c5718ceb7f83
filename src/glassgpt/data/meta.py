"""meta.json: what a prepared folder holds, and the sizes and hashes of its files. Written last, it seals the folder."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from glassgpt.config.plain import parse_json, typed
from glassgpt.data.sources import Skipped
from glassgpt.disk import sha256_of, sync
from glassgpt.errors import DataError
from glassgpt.finetune import Task

FORMAT_VERSION = 1

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


def read_meta(folder: Path) -> DataMeta:
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
        raise damaged(path, f"it is not what GlassGPT writes ({problem})") from None
    needed = file_names(meta.task)
    if set(meta.files) != set(needed):
        raise damaged(path, f"it must list exactly {', '.join(sorted(needed))}")
    if meta.dtype != token_dtype(meta.vocab_size).str:
        raise damaged(path, f"dtype {meta.dtype!r} does not fit vocab_size {meta.vocab_size}")
    return meta


def damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}; delete {path.parent} and prepare the text again")
