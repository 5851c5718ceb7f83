"""A text file in pieces, so that a large one is never held in memory. UTF-8; a byte-order mark at its start is dropped,
newlines are kept as they are."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from glassgpt.errors import DataError

PIECE_BYTES = 8 << 20
LONGEST_PIECE = 64 << 20  # characters

BOM = "\ufeff"


class Unreadable(DataError):  # noqa: N818 - an error only where the user named the file
    """This file is no text of ours. Found in a folder it is skipped for `reason`; named by the user it is the error."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def cannot_be_read(name: str, problem: OSError) -> Unreadable:
    why = problem.strerror or problem
    return Unreadable("cannot be read", f"{name} cannot be read: {why}; check the file, or leave it out")


def refuse_binary(path: Path, name: str) -> None:
    with path.open("rb") as file:
        position = file.read(8 << 10).find(b"\0")
    if position >= 0:
        raise Unreadable(
            "binary (a zero byte near its start)",
            f"{name} is not text: byte {position} is zero; only UTF-8 text is read, convert the file first",
        )


def read_pieces(path: Path, name: str) -> Iterator[str]:
    """The text of a file in pieces of about PIECE_BYTES that tokenize as the whole does.

    A stretch of LONGEST_PIECE characters without a safe place is cut all the same: bounded memory comes first.
    Raises Unreadable where the file is not UTF-8 or breaks.
    """
    decoder = _Utf8(name)
    waiting: list[str] = []
    try:
        with path.open("rb") as file:
            while block := file.read(PIECE_BYTES):
                text = decoder.decode(block)
                cut = last_safe_cut(text)
                if not cut and sum(map(len, waiting)) < LONGEST_PIECE:
                    waiting.append(text)
                    continue
                cut = cut or len(text)
                yield "".join([*waiting, text[:cut]])
                waiting = [text[cut:]]
    except OSError as problem:
        raise cannot_be_read(name, problem) from problem
    waiting.append(decoder.decode(b"", final=True))
    if rest := "".join(waiting):
        yield rest


def last_safe_cut(text: str) -> int:
    """The last place where `text` can be cut and still tokenize the same; 0 where there is none.

    That is between a letter or digit and a space or line end, where the pre-tokenisations of GPT-2, GPT-4 and Qwen all
    begin a new piece. Next to a newline would not do: they differ in what it clings to, and none is safe with CRLF.
    """
    for i in range(len(text) - 1, 0, -1):
        if text[i].isspace() and text[i - 1].isalnum():
            return i
    return 0


class _Utf8:
    """Decodes block by block and knows at which byte of the file it stands."""

    def __init__(self, name: str) -> None:
        self.name, self.position, self.pending = name, 0, b""

    def decode(self, block: bytes, final: bool = False) -> str:
        block = self.pending + block
        try:
            text, used = codecs.utf_8_decode(block, "strict", final)
        except UnicodeDecodeError as problem:
            raise invalid_utf8(self.name, self.position + problem.start, block[problem.start]) from None
        starts = self.position == 0
        self.position, self.pending = self.position + used, block[used:]
        return text.removeprefix(BOM) if starts else text


def invalid_utf8(name: str, position: int, value: int) -> Unreadable:
    return Unreadable(
        "not UTF-8",
        f"{name} is not UTF-8: byte {position} (0x{value:02x}) cannot stand there; convert the file to UTF-8 first",
    )
