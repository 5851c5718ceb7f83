"""The kinds of tokenizer, and what is done alike with all of them: build, load, save, compare."""

import difflib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from glassgpt.disk import replace_file
from glassgpt.errors import TokenizerError
from glassgpt.tokenizer.base import Tokenizer
from glassgpt.tokenizer.bpe import build_bpe, read_bpe
from glassgpt.tokenizer.byte import build_byte, read_byte
from glassgpt.tokenizer.char import build_char, read_char
from glassgpt.tokenizer.document import Document, model_type, parse_document
from glassgpt.tokenizer.gpt2 import build_gpt2, read_gpt2
from glassgpt.tokenizer.published import read_published


class Kind(NamedTuple):
    build: Callable[[Callable[[], Iterator[str]], int | None, bool, Callable[[str], None]], Tokenizer]
    """From (texts, vocab_size, single_text, report), as in `build_tokenizer`."""
    read: Callable[[Document], Tokenizer | None]
    """From a tokenizer.json; None where its structure is another kind's."""


# A tokenizer.json is of the first kind that reads it: byte and gpt2 are special cases of bpe, and stand before it.
KINDS: dict[str, Kind] = {
    "char": Kind(build_char, read_char),
    "byte": Kind(build_byte, read_byte),
    "gpt2": Kind(build_gpt2, read_gpt2),
    "bpe": Kind(build_bpe, read_bpe),
}


def build_tokenizer(
    kind: str,
    texts: Callable[[], Iterator[str]],
    vocab_size: int | None = None,
    single_text: bool = False,
    report: Callable[[str], None] | None = None,
) -> Tokenizer:
    """A tokenizer for a corpus.

    `texts()` streams the corpus, from the beginning at each call. `vocab_size` is free for bpe only (None: 4096); the
    other kinds have the size they have. A `single_text` has no document ends, its char vocabulary no token for them.
    `report` is handed a line about each thing that takes time.
    """
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        suggestion = f"did you mean {close[0]}?" if close else "choose one of them"
        raise TokenizerError(f"tokenizer {kind!r} is none of {', '.join(KINDS)}; {suggestion}")
    tokenizer = KINDS[kind].build(texts, vocab_size, single_text, report or (lambda line: None))
    if kind != "bpe" and vocab_size not in (None, tokenizer.vocab_size):
        raise TokenizerError(
            f"vocab_size {vocab_size} does not fit the {kind} tokenizer, which has {tokenizer.vocab_size} tokens here; "
            "leave it out, or use bpe, where it can be chosen"
        )
    return tokenizer


# Those that are built, then other programs' that can only be read.
READERS = [*(kind.read for kind in KINDS.values()), read_published]


def load_tokenizer(path: Path) -> Tokenizer:
    """Reads a tokenizer.json, ours or another program's; which kind it is follows from its structure.

    Raises TokenizerError for a file that is missing, damaged, or of a sort that is not built here. Truncation, padding
    and post-processors, which other programs keep in this file, are left out: they do not change a text's own ids.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror}); pass the path of a tokenizer.json") from None
    try:
        return read_tokenizer(content)
    except TokenizerError as error:
        raise TokenizerError(
            f"{path}: {error}; pass a whole tokenizer.json of kind {', '.join(KINDS)} or another BPE over bytes"
        ) from None


def read_tokenizer(content: str | bytes) -> Tokenizer:
    """As `load_tokenizer`, from the text of a tokenizer.json."""
    document = parse_document(content)
    for read in READERS:
        tokenizer = read(document)
        if tokenizer is not None:
            return tokenizer
    raise TokenizerError(f"its model is {model_type(document)!r}, which is not supported")


def named_tokenizer(name: str) -> str | Tokenizer:
    """What a person may write for a tokenizer: a kind, which is given back as it is, or the path of a tokenizer.json or
    of a folder that holds one, which is loaded."""
    if name in KINDS:
        return name
    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        close = difflib.get_close_matches(name, KINDS, n=1)
        suggestion = f"did you mean {close[0]}?" if close else "choose a kind, or give the path of a tokenizer.json"
        raise TokenizerError(
            f"tokenizer {name!r} is none of {', '.join(KINDS)}, nor a file that is there; {suggestion}"
        )
    return load_tokenizer(file)


def ready_tokenizer(name: str) -> str | Tokenizer:
    """As `named_tokenizer`, with the kinds built that are the same for every text; char and bpe need one, and stay names."""
    named = named_tokenizer(name)
    return build_tokenizer(named, lambda: iter(())) if isinstance(named, str) and named in ("byte", "gpt2") else named


def require_fitting(tokenizer: Tokenizer, name: str, vocab_size: int, model: str) -> None:
    """That a model of `vocab_size` tokens, called `model` in the error, could have been trained with this tokenizer."""
    if tokenizer.vocab_size > vocab_size:
        raise TokenizerError(
            f"tokenizer {name} has {tokenizer.vocab_size} tokens, {model} only {vocab_size}; it belongs to another model"
        )


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Writes a tokenizer.json; whoever looks meanwhile sees the old file or the new one, whole."""
    replace_file(path, tokenizer.to_json().encode("utf-8"), shared=True)


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """sha256 in hex. Equal exactly when the tokenizers are, wherever they came from."""
    return hashlib.sha256(tokenizer.to_json().encode("utf-8")).hexdigest()
