"""Text -> a prepared folder: split, train the tokenizer, encode, count, seal. See token_file.py for what is written."""

import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from glassgpt.config.cache_folder import cache_folder
from glassgpt.data.corpus import Corpus, open_corpus
from glassgpt.data.counting import SEPARATOR, TRAIN_LIMIT, VAL_LIMIT, counting_baseline
from glassgpt.data.disk import is_full, sync
from glassgpt.data.documents import PIECE_BYTES
from glassgpt.data.sources import expanded
from glassgpt.data.split import from_on, split_character, split_documents, up_to
from glassgpt.data.token_file import (
    FORMAT_VERSION,
    SPLITS,
    DataFolder,
    Split,
    TokenFileWriter,
    load_data,
    write_meta,
)
from glassgpt.errors import DataError, MachineError
from glassgpt.tokenizer import Tokenizer, build_tokenizer, save_tokenizer, tokenizer_hash

UNFINISHED = ".partial"
ABANDONED = 24 * 3600  # seconds without a change after which whoever worked in an unfinished folder is dead
IN_CACHE = "name a folder elsewhere in GLASSGPT_CACHE"

Progress = Callable[[str, float], None]
"""Called with what is being done now, in words for the terminal, and the share of it that is done, 0 to 1."""


def prepare(
    sources: Sequence[str],
    out: str | Path,
    tokenizer: str | Tokenizer,
    vocab_size: int | None = None,
    text_field: str = "text",
    progress: Progress | None = None,
) -> DataFolder:
    """Prepare `sources` (see sources.py) in the new folder `out`, with a tokenizer of this kind or this very one.

    The folder appears under its name when it is whole, and not at all if anything stops the work before. Raises
    DataError where `out` exists or the sources give no text, TokenizerError where the tokenizer cannot be built.
    """
    out = expanded(out)
    if out.exists():
        raise DataError(f"{out} exists already; name another folder, for nothing is written over")
    with open_corpus(sources, text_field, part_of(progress, "reading the text")) as corpus, unfinished(out) as folder:
        write_folder(folder, corpus, sources, tokenizer, vocab_size, progress)
        folder.rename(out)
    sync(out.parent)
    return load_data(out)


def prepare_cached(
    sources: Sequence[str],
    tokenizer: str | Tokenizer,
    vocab_size: int | None = None,
    text_field: str = "text",
    progress: Progress | None = None,
) -> DataFolder:
    """As `prepare`, in the cache under the fingerprint of text and settings: done once, then only read and checked."""
    with open_corpus(sources, text_field, part_of(progress, "reading the text")) as corpus:
        out = cache_folder() / "data" / fingerprint(corpus, tokenizer, vocab_size)
        data = load_if_whole(out)
        if data is None:
            remove_abandoned(out.parent)
            with unfinished(out, IN_CACHE) as folder:
                write_folder(folder, corpus, sources, tokenizer, vocab_size, progress)
                data = put_in_place(folder, out)
        # The same text may have been reached by another way before.
        return replace(data, meta=replace(data.meta, sources=tuple(sources), skipped=tuple(corpus.skipped)))


def fingerprint(corpus: Corpus, tokenizer: str | Tokenizer, vocab_size: int | None) -> str:
    """sha256 over format, tokenizer (its kind, or its hash where it exists), vocab_size and the text.

    The text field is in it as the text that it leads to.
    """
    kind = tokenizer if isinstance(tokenizer, str) else tokenizer_hash(tokenizer)
    return hashlib.sha256(f"{FORMAT_VERSION} {kind} {vocab_size} {corpus.fingerprint}".encode()).hexdigest()


def part_of(progress: Progress | None, stage: str) -> Callable[[float], None]:
    return (lambda share: progress(stage, share)) if progress else (lambda _: None)


@contextmanager
def unfinished(out: Path, elsewhere: str = "name a folder elsewhere") -> Iterator[Path]:
    """A hidden folder beside `out` to work in; removed at the end unless it was renamed into place.

    Raises MachineError where it cannot be written; that a text cannot be read is a DataError from where it is read.
    """
    folder = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        folder.mkdir(parents=True)
        yield folder
    except BrokenPipeError:  # the reader of our progress has gone; no disk gives this
        raise
    except OSError as problem:
        advice = f"make room there, or {elsewhere}" if is_full(problem) else elsewhere
        raise MachineError(f"{out} cannot be prepared: {problem.strerror or problem}; {advice}") from problem
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(cache: Path) -> None:
    """Remove what killed preparations left in the cache; one that lives has changed something within the last day."""
    for folder in cache.glob(f".*{UNFINISHED}"):
        try:
            last_change = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        except OSError:  # finished, or removed by another process, this very moment
            continue
        if time.time() - last_change > ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)


def load_if_whole(folder: Path) -> DataFolder | None:
    try:
        return load_data(folder)
    except DataError:
        return None


def put_in_place(folder: Path, out: Path) -> DataFolder:
    """Move a sealed folder into the cache; where another process was faster and well, its folder is used."""
    for _ in range(3):
        try:
            folder.rename(out)
        except OSError:
            data = load_if_whole(out)
            if data is not None:
                return data
            # Damaged. Moved away first: the name is free in one step, and nobody reads a folder that is half deleted.
            # Gone already where another process does the same.
            with unfinished(out, IN_CACHE) as rubbish, suppress(FileNotFoundError):
                out.rename(rubbish / "damaged")
        else:
            sync(out.parent)
            return load_data(out)
    raise DataError(f"{out} cannot be replaced; delete it")


def write_folder(
    folder: Path,
    corpus: Corpus,
    sources: Sequence[str],
    kind: str | Tokenizer,
    vocab_size: int | None,
    progress: Progress | None,
) -> None:
    parts = Parts(corpus)
    tokenizer = kind
    if isinstance(tokenizer, str):
        # Validation text stays unseen, except by a char vocabulary, which could not write it otherwise.
        splits = SPLITS if tokenizer == "char" else SPLITS[:1]
        tokenizer = build_tokenizer(
            tokenizer,
            lambda: (part.text for part in parts if part.split in splits),
            vocab_size,
            len(corpus) == 1,
            (lambda line: progress(line, 0.0)) if progress else None,
        )
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    texts = {split: bytearray() for split in SPLITS}
    limits = {"train": TRAIN_LIMIT, "val": VAL_LIMIT}
    report, total, done = part_of(progress, "turning text into tokens"), sum(corpus.sizes), 0
    with TokenFileWriter(folder, "train", tokenizer) as train, TokenFileWriter(folder, "val", tokenizer) as val:
        writers = {"train": train, "val": val}
        for batch in batched(parts):
            for part, ids in zip(batch, tokenizer.encode_batch([part.text for part in batch]), strict=True):
                encoded, text = part.text.encode(), texts[part.split]
                writers[part.split].add(ids, len(encoded), part.starts_document)
                room = limits[part.split] - len(text)
                separator = bytes([SEPARATOR]) if text and part.starts_document else b""
                text += (separator + encoded)[: max(0, room)]
                done += len(encoded)
            report(done / total)
        if done != total:
            raise DataError(f"the text changed while it was read ({total} bytes, then {done}); run again")
    count_report = part_of(progress, "counting byte n-grams")
    count_report(0.0)
    baseline = counting_baseline(texts["train"], texts["val"])
    count_report(1.0)
    names = ["tokenizer.json"] + [f"{split}{end}" for split in SPLITS for end in (".bin", ".documents.npy")]
    write_meta(
        folder,
        names,
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint(corpus, kind, vocab_size),
        dtype=train.dtype.str,
        vocab_size=tokenizer.vocab_size,
        tokenizer_kind=tokenizer.kind,
        tokenizer_hash=tokenizer_hash(tokenizer),
        documents=len(corpus),
        train=train.meta,
        val=val.meta,
        baseline_bits_per_byte=baseline.bits_per_byte,
        baseline_order=baseline.order,
        sources=tuple(sources),
        text_field=corpus.text_field,
        skipped=tuple(corpus.skipped),
    )


@dataclass(frozen=True)
class Part:
    """A piece of a document, on its side of the split."""

    split: Split
    text: str
    starts_document: bool


class Parts:
    """The pieces of a corpus, each with its side of the split; can be iterated any number of times."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.cut = split_character(corpus.characters) if len(corpus) == 1 else 0
        self.for_validation = split_documents(corpus.name_hashes, corpus.sizes) if len(corpus) > 1 else None

    def __iter__(self) -> Iterator[Part]:
        for i, document in enumerate(self.corpus):
            if self.for_validation is None:
                yield from parts_of("train", up_to(document.pieces(), self.cut))
                yield from parts_of("val", from_on(document.pieces(), self.cut))
            elif i < len(self.for_validation):  # else the text has grown; the count of its bytes will tell
                yield from parts_of("val" if self.for_validation[i] else "train", document.pieces())


def parts_of(split: Split, pieces: Iterator[str]) -> Iterator[Part]:
    for number, piece in enumerate(pieces):
        yield Part(split, piece, starts_document=number == 0)


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
