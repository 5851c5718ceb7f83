"""Text -> a prepared folder: split, train the tokenizer, encode, count, seal. See token_file.py for what is written."""

import glob
import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from glassgpt.config.cache_folder import cache_folder
from glassgpt.data.corpus import Corpus, open_corpus, require_learnable
from glassgpt.data.counting import SEPARATOR, TRAIN_LIMIT, VAL_LIMIT, counting_baseline
from glassgpt.data.folder import DataFolder, load_data
from glassgpt.data.meta import FORMAT_VERSION, SPLITS, TEMPLATE, file_names, token_dtype, write_meta
from glassgpt.data.parts import Parts, batched, bytes_of_answers, encode
from glassgpt.data.sources import expanded
from glassgpt.data.token_file import MARKS, TokenFileWriter
from glassgpt.disk import DiskError, sync, working_folder
from glassgpt.errors import DataError
from glassgpt.finetune import Task, Template, template_for
from glassgpt.tokenizer import Tokenizer, build_tokenizer, tokenizer_hash

UNFINISHED = ".partial"
ABANDONED = 24 * 3600  # seconds without a change after which whoever worked in an unfinished folder is dead
NEEDED = "bytes_needed"  # what an OSError on its way out is told
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
    task: Task | Literal["auto"] = "auto",
) -> DataFolder:
    """Prepare `sources` (see sources.py) in the new folder `out`, with a tokenizer of this kind or this very one. `task`: as
    in `open_corpus`.

    The folder appears under its name when it is whole, and not at all if anything stops the work before. Raises
    DataError where `out` exists or the sources give no text, TokenizerError where the tokenizer cannot be built.
    """
    out = expanded(out)
    if out.exists():
        raise DataError(f"{out} exists already; name another folder, for nothing is written over")
    remove_abandoned(out.parent, out.name)
    report = part_of(progress, "reading the text")
    with open_corpus(sources, text_field, report, task) as corpus, unfinished(out) as folder:
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
    task: Task | Literal["auto"] = "auto",
    template: Template | None = None,
) -> DataFolder:
    """As `prepare`, in the cache under the fingerprint of text and settings: done once, then only read and checked. `template`
    is the one that the model knows already."""
    with open_corpus(sources, text_field, part_of(progress, "reading the text"), task) as corpus:
        out = cache_folder() / "data" / fingerprint(corpus, tokenizer, vocab_size, template)
        data = load_if_whole(out)
        if data is None:
            remove_abandoned(out.parent)
            with unfinished(out, IN_CACHE) as folder:
                write_folder(folder, corpus, sources, tokenizer, vocab_size, progress, template)
                data = put_in_place(folder, out)
        # The same text may have been reached by another way before.
        return replace(data, meta=replace(data.meta, sources=tuple(sources), skipped=tuple(corpus.skipped)))


def fingerprint(
    corpus: Corpus, tokenizer: str | Tokenizer, vocab_size: int | None, template: Template | None = None
) -> str:
    """sha256 over format, tokenizer (its kind, or its hash where it exists), vocab_size, the text, and the template where it
    does not follow from the tokenizer.

    The text field is in it as the text that it leads to, the task as who says what, or as labels.
    """
    kind = tokenizer if isinstance(tokenizer, str) else tokenizer_hash(tokenizer)
    parts = [FORMAT_VERSION, kind, vocab_size, corpus.fingerprint]
    if template is not None:
        parts.append(template.to_json())
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def part_of(progress: Progress | None, stage: str) -> Callable[[float], None]:
    return (lambda share: progress(stage, share)) if progress else (lambda _: None)


@contextmanager
def unfinished(out: Path, elsewhere: str = "name a folder elsewhere") -> Iterator[Path]:
    """A hidden folder beside `out` to work in; removed at the end unless it was renamed into place.

    Raises DiskError where it cannot be; that a text cannot be read is a DataError from where it is read.
    """
    folder = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        with working_folder(folder):
            yield folder
    except BrokenPipeError:  # the reader of our progress has gone; no disk gives this
        raise
    except OSError as problem:
        # The half folder is removed by now.
        raise DiskError(out, problem, getattr(problem, NEEDED, 0), about="about ", elsewhere=elsewhere) from problem


def remove_abandoned(parent: Path, name: str | None = None) -> None:
    """Remove what killed preparations left in the cache, or of the folder `name` where others keep things too; one that lives
    has changed something within the last day."""
    ours = "*" if name is None else glob.escape(name) + "." + "[0-9a-f]" * 8
    for folder in parent.glob(f".{ours}{UNFINISHED}"):
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
    known_template: Template | None = None,
) -> None:
    require_learnable(corpus)
    parts, task = Parts(corpus), corpus.wanted.task
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
    (folder / "tokenizer.json").write_bytes(tokenizer.to_json().encode("utf-8"))
    template = (known_template or template_for(tokenizer)) if task == "conversations" else None
    if template is not None:
        (folder / TEMPLATE).write_text(template.to_json(), encoding="utf-8", newline="\n")
    texts = {split: bytearray() for split in SPLITS}
    answers = bytearray()  # of val: 1 for each byte of its text that is part of an answer
    limits = {"train": TRAIN_LIMIT, "val": VAL_LIMIT}
    report, total, done = part_of(progress, "turning text into tokens"), sum(corpus.sizes), 0
    number_of = {label: number for number, label in enumerate(corpus.labels)}
    tokens = 0
    with (
        room_is_told(lambda: about_bytes(tokens, done, total, tokenizer.vocab_size)),
        TokenFileWriter(folder, "train", tokenizer, task) as train,
        TokenFileWriter(folder, "val", tokenizer, task) as val,
    ):
        writers = {"train": train, "val": val}
        for batch in batched(parts):
            for part, (ids, marks) in zip(batch, encode(batch, tokenizer, template, number_of), strict=True):
                encoded, text = part.text.encode(), texts[part.split]
                tokens, done = tokens + len(ids), done + len(encoded)
                writers[part.split].add(ids, len(encoded), part.starts_document, marks)
                room = limits[part.split] - len(text)
                if task == "labels" or room <= 0:
                    continue
                separator = bytes([SEPARATOR]) if text and part.starts_document else b""
                text += (separator + encoded)[:room]
                if part.split == "val" and task == "conversations":
                    answers += bytes(len(separator)) + bytes_of_answers(part.document)
            report(done / total)
        if done != total:
            raise DataError(f"the text changed while it was read ({total} bytes, then {done}); run again")
    baseline = None
    if task != "labels":
        count_report = part_of(progress, "counting byte n-grams")
        count_report(0.0)
        marked = answers[: len(texts["val"])] if task == "conversations" else None
        baseline = counting_baseline(texts["train"], texts["val"], marked)
        count_report(1.0)
    write_meta(
        folder,
        file_names(task),
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint(corpus, kind, vocab_size, known_template),
        dtype=train.dtype.str,
        vocab_size=tokenizer.vocab_size,
        tokenizer_kind=tokenizer.kind,
        tokenizer_hash=tokenizer_hash(tokenizer),
        documents=len(corpus),
        train=train.meta,
        val=val.meta,
        task=task,
        labels=corpus.labels,
        baseline_bits_per_byte=baseline.bits_per_byte if baseline else None,
        baseline_order=baseline.order if baseline else 0,
        baseline_accuracy=share_of_commonest(folder) if task == "labels" else None,
        sources=tuple(sources),
        text_field=corpus.wanted.text_field,
        skipped=tuple(corpus.skipped),
    )


@contextmanager
def room_is_told(needed: Callable[[], int]) -> Iterator[None]:
    """Adds to an OSError what `unfinished` cannot know."""
    try:
        yield
    except OSError as problem:
        setattr(problem, NEEDED, needed())
        raise


def about_bytes(tokens: int, done: int, total: int, vocab_size: int) -> int:
    """Of the token files of a text of `total` bytes, of which the first `done` became `tokens`; 0 where nothing is known."""
    return token_dtype(vocab_size).itemsize * tokens * total // done if done else 0


def share_of_commonest(folder: Path) -> float:
    """The share of the validation texts that has the label which is commonest in training."""
    train, val = (np.fromfile(folder / f"{split}.marks.bin", MARKS["labels"]) for split in SPLITS)
    return float((val == np.bincount(train).argmax()).mean())
