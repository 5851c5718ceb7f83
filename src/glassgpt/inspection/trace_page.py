"""What `trace` has seen of a prompt, as plain numbers for the page."""

import base64
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassgpt.generate import Engine
from glassgpt.inspection.capture import require_one_text
from glassgpt.inspection.figures import number
from glassgpt.inspection.trace import Value, trace
from glassgpt.inspection.words import BYTES, token_text
from glassgpt.model import attention

MOST_TOKENS = 64


def traced(engine: Engine, given: Tensor) -> dict[str, Any]:
    """`trace` of the last of a prompt's tokens, `given` (1, T), at most 64 of them, as plain numbers for the page. Raises
    ConfigError for tokens that are none of this model's or of several texts."""
    require_one_text(engine.model, given)
    tokens = given[:, -min(MOST_TOKENS, engine.model.config.context_length) :]
    found = trace(engine.model, tokens)
    spelled_out = where = ""
    if found.apart is not None:
        spelled_out = (
            "The model calls fused_attention, one kernel that never writes scores, mask and weights. Beside it, with the same "
            "queries, keys and values, explicit_attention was run for this page, and what stands at its lines is from there: "
            f"the two results differ by rounding, {found.apart:.1g} at most."
        )
        where = (
            " Attention runs fused: its scores, mask and weights were computed beside it, and stand in attention.py."
        )
    files = [
        {
            "name": path.name,
            "about": spelled_out if path == Path(attention.__file__) else "",
            "lines": [
                {"source": line.source, "runs": [run._asdict() | {"values": _plain(run.values)} for run in line.runs]}
                for line in lines
            ],
        }
        for path, lines in found.files.items()
    ]
    words = " ".join(f"[{token_text(engine, id)}]" for id in tokens[0].tolist()).replace("\n", "\N{RETURN SYMBOL}")
    count, cut = (
        tokens.shape[1],
        f", the last of the prompt's {given.shape[1]:,}" if given.shape[1] > tokens.shape[1] else "",
    )
    about = (
        f"Every line of the code that computes this model, with the tensors that it made of {count} "
        f"token{'s' * (count > 1)}{cut}: {words}.{where}"
    ) + (" <e2> is a byte of a character that several tokens make up." if BYTES.search(words) else "")
    return {"about": about, "blocks": engine.model.config.n_layer, "files": files}


def _plain(values: list[Value]) -> list[dict[str, Any]]:
    return [
        {
            "name": value.name, "shape": value.shape, "grid": value.picture.shape, "picture": _drawn(value.picture),
            **{name: number(getattr(value, name)) for name in ("mean", "std", "least", "most")},
        }
        for value in values
    ]  # fmt: skip


def _drawn(picture: Tensor) -> str:
    """A byte each, base64: 128 is 0, 255 what is furthest from it, 1 the opposite."""
    finite = picture.nan_to_num(0.0, 0.0, 0.0)  # what is not is left out
    cells = (128 + 127 * finite / finite.abs().max().clamp(min=1e-30)).round().to(torch.uint8)
    return base64.b64encode(cells.numpy().tobytes()).decode()
