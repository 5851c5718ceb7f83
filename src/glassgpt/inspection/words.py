"""Tokens as words for a reader."""

from torch import Tensor

from glassgpt.generate import Engine

UNEVEN = "\N{REPLACEMENT CHARACTER}"
WHITE = " \n\t\r"


def token_text(engine: Engine, id: int) -> str:
    """What a token stands for; bytes that are no whole character, or control a terminal, as hexadecimal numbers."""
    if id >= engine.tokenizer.vocab_size:
        return f"<{id}>"  # it only pads the embedding
    raw = engine.tokenizer.token_bytes(id)
    text = raw.decode("utf-8", "replace")
    return f"<{raw.hex(' ')}>" if UNEVEN in text or not all(c.isprintable() or c in WHITE for c in text) else text


def likeliest(engine: Engine, scores: Tensor, k: int) -> list[tuple[str, float]]:
    """The k tokens with the highest `scores` (V,), and these."""
    top = scores.topk(min(k, len(scores)))
    return [(token_text(engine, id), p) for p, id in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
