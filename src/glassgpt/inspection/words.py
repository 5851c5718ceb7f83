"""Tokens as words for a reader."""

import re

from torch import Tensor

from glassgpt.generate import Engine

BYTES = re.compile("<[0-9a-f]{2}>")
WHITE = " \n\t\r"


def token_text(engine: Engine, id: int) -> str:
    """What a token stands for; bytes that are no whole character, or control a terminal, as hexadecimal numbers: <e2>."""
    return _readable(_bytes_of(engine, id).decode("utf-8", "surrogateescape"))


def end_of(engine: Engine, ids: list[int], most: int) -> str:
    """The last characters, at most so many, of what tokens stand for together: several may make up one."""
    raw = b"".join(_bytes_of(engine, id) for id in ids[-most:])
    return _readable(raw.decode("utf-8", "surrogateescape")[-most:])


def _bytes_of(engine: Engine, id: int) -> bytes:
    if id >= engine.tokenizer.vocab_size:
        return f"<{id}>".encode()  # it only pads the embedding
    return engine.tokenizer.token_bytes(id)


def _readable(text: str) -> str:
    return "".join(
        c if c.isprintable() or c in WHITE else f"<{c.encode('utf-8', 'surrogateescape').hex()}>" for c in text
    )


def part_name(activation: str) -> str:
    """What a page calls a part of the model: `block.0.mlp`, by the name of its activation or gradient, is "layer 0, MLP"."""
    block, _, rest = activation.partition(".")
    if block == "embedding":
        return f"{rest} embedding" if rest else block
    if block != "block":
        return {"head": "output layer"}.get(activation, activation)
    layer, _, part = rest.partition(".")
    return f"layer {layer}" + {"": "", "attention": ", attention", "mlp": ", MLP"}[part]


def likeliest(engine: Engine, scores: Tensor, k: int) -> list[tuple[str, float]]:
    """The k tokens with the highest `scores` (V,), and these."""
    top = scores.topk(min(k, len(scores)))
    return [(token_text(engine, id), p) for p, id in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
