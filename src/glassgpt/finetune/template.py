"""How a conversation is written for a model, and which of its tokens the model should learn to say.

A template is data, kept beside the tokenizer: what stands before and after a message of each role. Its own special tokens,
such as the one that ends an answer, become their ids; the same words inside a message are ordinary text, so that no message
can end a turn that is not its own. Template and messages are encoded apart: a token never lies across their border, and what
is scored in training is exactly what the model has to write later. The ids are those of the text encoded as a whole, but for
messages that begin or end with spaces or line ends.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from glassgpt.config.plain import parse_json, typed
from glassgpt.errors import DataError, TokenizerError
from glassgpt.tokenizer import END_OF_TEXT, Tokenizer

ROLES = ("system", "user", "assistant")
ANSWERING = "assistant"


class Message(NamedTuple):
    role: str
    content: str


class Piece(NamedTuple):
    text: str
    kind: Literal["frame", "special", "content"]  # the template's own words, the name of a token, a message
    scored: bool = False  # the model should say it


class Encoded(NamedTuple):
    ids: npt.NDArray[Any]  # (T,)
    scored: npt.NDArray[np.bool_]  # (T,)


@dataclass(frozen=True, kw_only=True)
class Template:
    """`before` and `after` have a text for each of ROLES, in which the names in `specials` mean those tokens. `end` is the one
    that ends an answer, and the first thing after it."""

    name: str
    before: dict[str, str]
    after: dict[str, str]
    specials: tuple[str, ...]
    end: str

    def __post_init__(self) -> None:
        assert set(self.before) == set(self.after) == set(ROLES)
        assert self.end in self.specials and self.after[ANSWERING].startswith(self.end)

    def pieces(self, messages: Iterable[Message], answering: bool = False) -> list[Piece]:
        """`answering`: with what stands before the next answer. The words between two messages are one piece, as for a
        program that encodes the whole text."""
        pieces: list[Piece] = []
        for role, content in messages:
            opening, closing = self._frames[role]
            pieces += [*opening, Piece(content, "content", scored=role == ANSWERING), *closing]
        pieces += self._frames[ANSWERING][0] if answering else []
        joined: list[Piece] = []
        for piece in pieces:
            if joined and piece.kind == joined[-1].kind == "frame":
                joined[-1] = Piece(joined[-1].text + piece.text, "frame")
            else:
                joined.append(piece)
        return joined

    def encode(self, tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Whole conversations, many at once. Raises TokenizerError where the tokenizer cannot write them."""
        pieces = [self.pieces(messages) for messages in conversations]
        self._require_writable(tokenizer, (piece for some in pieces for piece in some))
        texts = iter(tokenizer.encode_batch([p.text for some in pieces for p in some if p.kind != "special"]))

        def ids_of(piece: Piece) -> npt.NDArray[Any]:
            return np.array([self._id(piece.text, tokenizer)]) if piece.kind == "special" else next(texts)

        return [_joined([(ids_of(piece), piece.scored) for piece in some]) for some in pieces]

    def prompt(self, tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
        """The ids of `messages` and of what stands before the next answer."""
        pieces = self.pieces(messages, answering=True)
        self._require_writable(tokenizer, pieces)
        parts = ([self._id(p.text, tokenizer)] if p.kind == "special" else tokenizer.encode(p.text) for p in pieces)
        return [id for part in parts for id in part]

    def end_id(self, tokenizer: Tokenizer) -> int:
        """The token after which an answer is over."""
        return self._id(self.end, tokenizer)

    def fits(self, tokenizer: Tokenizer) -> bool:
        return all(name in tokenizer.specials for name in self.specials)

    def text(self, messages: Iterable[Message]) -> list[Piece]:
        """As `pieces`, without special tokens: what a person reads, and a tokenizer is trained on."""
        return [piece for piece in self.pieces(messages) if piece.kind != "special"]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @cached_property
    def _frames(self) -> dict[str, tuple[list[Piece], list[Piece]]]:
        """What stands before and after a message of each role; of what follows an answer, the first piece is its end."""
        frames = {role: (self._split(self.before[role]), self._split(self.after[role])) for role in ROLES}
        closing = frames[ANSWERING][1]
        closing[0] = closing[0]._replace(scored=True)
        return frames

    def _split(self, text: str) -> list[Piece]:
        names = "|".join(map(re.escape, self.specials))
        parts = [part for part in re.split(f"({names})", text) if part]
        return [Piece(part, "special" if part in self.specials else "frame") for part in parts]

    def _require_writable(self, tokenizer: Tokenizer, pieces: Iterable[Piece]) -> None:
        """That the template's own words are not what a tokenizer of few characters cannot write: no text has them."""
        for words in dict.fromkeys(piece.text for piece in pieces if piece.kind == "frame"):
            try:
                tokenizer.encode(words)
            except TokenizerError as error:
                reason = str(error).partition(";")[0]
                raise TokenizerError(
                    f"the {self.name} template writes {words!r} into every conversation, which this {tokenizer.kind} "
                    f"tokenizer cannot ({reason}); take a model with the tokenizer byte or bpe, which know every character"
                ) from None

    def _id(self, name: str, tokenizer: Tokenizer) -> int:
        if name not in tokenizer.specials:
            raise TokenizerError(
                f"the {tokenizer.kind} tokenizer has no token {name}, which marks where an answer ends; "
                "take a model or a tokenizer that has it"
            )
        return tokenizer.specials[name]


def _joined(parts: Sequence[tuple[npt.NDArray[Any], bool]]) -> Encoded:
    ids = np.concatenate([ids.astype(np.int64) for ids, _ in parts])
    return Encoded(ids, np.concatenate([np.full(len(ids), scored) for ids, scored in parts]))


# For models that know text only: headings, as in Alpaca and the book, and GPT-2's own token for the end.
PLAIN = Template(
    name="plain",
    before={"system": "### System:\n", "user": "### User:\n", "assistant": "### Assistant:\n"},
    after={"system": "\n\n", "user": "\n\n", "assistant": END_OF_TEXT},
    specials=(END_OF_TEXT,),
    end=END_OF_TEXT,
)
# ChatML, which Qwen's models speak: for tokenizers that have its tokens.
CHATML = Template(
    name="chatml",
    before={role: f"<|im_start|>{role}\n" for role in ROLES},
    after=dict.fromkeys(ROLES, "<|im_end|>\n"),
    specials=("<|im_start|>", "<|im_end|>"),
    end="<|im_end|>",
)


def template_for(tokenizer: Tokenizer) -> Template:
    """The template for a model that has none yet. Raises TokenizerError where the tokenizer can mark no end."""
    if CHATML.fits(tokenizer):
        return CHATML
    PLAIN.end_id(tokenizer)
    return PLAIN


def read_template(text: str | bytes, source: str) -> Template:
    """What `to_json` wrote."""
    try:
        template: Template = typed(Template, parse_json(text), "it")
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"{source} is no template of a conversation ({error or 'a role or the end is missing'})"
        ) from None
    return template
