"""Minimal pairs as a person writes them, and what is shown of them.

Shapes: L n_layer, H n_head, T positions.
"""

from collections.abc import Callable
from typing import Any

import torch

from glassgpt.errors import ConfigError
from glassgpt.generate import Engine
from glassgpt.inspection.probes import Attribution, Pair, attribute, carried
from glassgpt.inspection.stream import stages
from glassgpt.inspection.words import part_name, token_text

BEFORE_ANSWER = "|"
EXAMPLE = '--pair "The dogs near the cat| run" "The dog near the cat| runs"'
LEAST_KNOWN = 0.1  # nats; of less, shares are noise divided by nearly nothing
BEHIND = "Parts that lie one behind another carry the same difference: their shares may come to more than 100 %."
MOST_POSITIONS = 32  # of a pair whose way through the positions is followed: it takes the square of them


def read_pair(engine: Engine, one: str, other: str) -> Pair:
    """Two texts, each with a | before the token that should follow it. Raises ConfigError where they make no minimal pair, and
    TokenizerError where they cannot be encoded."""
    (text, answer), (other_text, other_answer) = _text_and_answer(engine, one), _text_and_answer(engine, other)
    if len(text) != len(other_text):
        raise ConfigError(
            f"the texts of a pair have to be equally many tokens, but {_cut(engine, text)} is {len(text)} and "
            f"{_cut(engine, other_text)} is {len(other_text)}; change words one for one, tokens that are cut alike"
        )
    if text == other_text or answer == other_answer:
        what, same = ("texts", text) if text == other_text else ("answers", [answer])
        both = repr(engine.tokenizer.decode(same))
        raise ConfigError(f"the {what} of a pair have to differ, both are {both}; write such as {EXAMPLE}")
    limit = engine.model.config.context_length
    if len(text) > limit:
        raise ConfigError(f"the texts of a pair are {len(text)} tokens, the model sees {limit} at once; shorten them")
    one_row, other_row = (torch.tensor(ids, device=engine.device) for ids in (text, other_text))
    return Pair(one_row, answer, other_row, other_answer)


def _text_and_answer(engine: Engine, written: str) -> tuple[list[int], int]:
    text, mark, answer = written.rpartition(BEFORE_ANSWER)
    if not mark or not text or not answer:
        raise ConfigError(f"{written!r} has to be a text, | and the token that should follow: {EXAMPLE}")
    ids, answers = engine.tokenizer.encode(text), engine.tokenizer.encode(answer)
    if len(answers) != 1:
        raise ConfigError(
            f"{answer!r} is {len(answers)} tokens to this model ({_cut(engine, answers)}), an answer has to be one; move "
            "the | to before the first token in which the two answers differ, and leave out what comes after it"
        )
    if engine.tokenizer.encode(text + answer) != ids + answers:
        raise ConfigError(
            f"{text + answer!r} as a whole is cut into other tokens than {text!r} and {answer!r}; put the | at a border of "
            "words, before the space"
        )
    return ids, answers[0]


def _cut(engine: Engine, ids: list[int]) -> str:
    return "".join(f"[{token_text(engine, id)}]" for id in ids)


def about_pair(found: Attribution) -> str:
    """How well the model knows a pair, and what the shares that are attributed are shares of."""
    if found.preference < LEAST_KNOWN:
        return "It hardly prefers the right answers, if at all: there is nothing to attribute."
    if found.right == 1:
        return f"Each text prefers its own answer, by {found.preference:.3g} nats on average. {BEHIND}"
    return (
        "After one of the two texts it prefers the other's answer, which is wrong. The texts change the odds of the answers "
        f"by {2 * found.preference:.3g} nats, too little to turn them round; shares are of that. {BEHIND}"
    )


def look_at_pair(engine: Engine, pair: Pair, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """What the model says at the end of both texts, and which parts carry the difference there, as plain numbers. None in the
    place of these where it hardly prefers the right answers: then there is nothing to attribute."""
    texts = torch.stack((pair.text, pair.other_text))
    answers = [pair.answer, pair.other_answer]
    with torch.inference_mode():
        shares = engine.model(texts)[:, -1].float().softmax(dim=-1)[:, answers]
    if not shares.isfinite().all():
        raise ConfigError("this model's scores of the pair are not finite; it cannot be looked into")
    data: dict[str, Any] = {
        "texts": [[token_text(engine, id) for id in row] for row in texts.tolist()],
        "differs": (pair.text != pair.other_text).tolist(),
        "answers": [token_text(engine, id) for id in answers],
        "probabilities": shares.tolist(),  # of both answers, after both texts
    }
    found = attribute(engine.model, [pair], progress)
    known = found.preference >= LEAST_KNOWN
    data |= {"preference": found.preference, "known": known, "about": about_pair(found)}
    for part in ("heads", "attention", "mlp"):
        data[part] = getattr(found, part).tolist() if known else None
    data["embedding"] = found.embedding if known else None
    follow = known and len(pair.text) <= MOST_POSITIONS
    data |= {"stages": [part_name(name) for name in stages(engine.model)], "most_positions": MOST_POSITIONS}
    return data | {"stream": carried(engine.model, pair).tolist() if follow else None}
