"""All that is to be seen of a model and one prompt, as plain numbers: what the page and the terminal show.

Shapes: L n_layer, H n_head, T positions, V vocab_size.
"""

import base64
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassgpt.data import Batch
from glassgpt.errors import ConfigError
from glassgpt.generate import Engine
from glassgpt.inspection.ablation import ablate
from glassgpt.inspection.attention import SHORTEST, head_scores
from glassgpt.inspection.capture import capture, require_one_text
from glassgpt.inspection.gradients import gradient_norms
from glassgpt.inspection.loss import require_text
from glassgpt.inspection.memories import about_signs, look_at_neurons
from glassgpt.inspection.neurons import cosine_table, similar_rows
from glassgpt.inspection.pairs import look_at_pair
from glassgpt.inspection.probes import Pair
from glassgpt.inspection.stream import contributions, is_sum, logit_lens, parts, stages
from glassgpt.inspection.words import likeliest, part_name, token_text
from glassgpt.train.loss import count_targets

MOST_TOKENS = 128  # of a prompt: attention is as large as its square
LEAST_LOSS = 0.0005  # nats a token that a part has to be worth to be named; less is shown as 0
ALTERNATIVES, NEIGHBOURS, BINS, MOST_POSITIONS, MOST_PARTS = 8, 8, 41, 64, 12

Look = dict[str, Any]


def look(
    engine: Engine,
    tokens: Tensor,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    pairs: Sequence[Pair] = (),
    contexts: Batch | None = None,
) -> Look:
    """What the model makes of the last of a prompt's `tokens` (1, T), at most 128 of them and at most a context. `progress`
    hears what is being done, and how much of it is done. `pairs` are probed with; `contexts` are what the gradient is of, and
    what excites neurons is looked for in, without them the prompt. Of one token there is no loss: "ablation" is None, and
    "gradients" too where no context has a target. Raises ConfigError where the model's weights or scores are not finite, for a
    model that tells labels apart, and for tokens that are none of this model's or of several texts."""
    model = engine.model
    require_text(model)
    require_one_text(model, tokens)
    most = min(MOST_TOKENS, model.config.context_length)
    given, tokens = tokens.shape[1], tokens[:, -most:]
    names = [*stages(model), *parts(model), "block.*.weights", "block.*.neurons"]
    with torch.inference_mode():
        for name, weight in model.named_parameters():
            if not weight.isfinite().all():
                raise ConfigError(f"{name} of this model is not finite everywhere; it cannot be looked into")
        found = {name: activation[0].float() for name, activation in capture(model, tokens, names).items()}
        if not found["logits"].isfinite().all():
            raise ConfigError("this model's scores are not finite; it cannot be looked into")
        data: Look = {
            "model": _model(engine, given, tokens),
            "tokens": _tokens(engine, tokens[0], found["logits"]),
            "next": likeliest(engine, found["logits"][-1].softmax(dim=-1), ALTERNATIVES),
            # Of its root, as it is drawn: small weights keep two digits.
            "attention": _quantized(
                torch.stack([found[f"block.{i}.weights"] for i in range(model.config.n_layer)]).sqrt()
            ),
            "stages": [part_name(name) for name in stages(model)],
            "norms": [found[name].norm(dim=-1).tolist() for name in stages(model)],
            "cosine_with_before": _cosine_with_before([found[name] for name in stages(model)]),
            "cosine_with_end": _cosine_with_end([found[name] for name in stages(model)]),
            "parts": [part_name(name) for name in parts(model)],
            "part_norms": [found[name].norm(dim=-1).tolist() for name in parts(model)],
            "contributions": _contributions(engine, found, tokens),
            "lens": _lens(engine, found, tokens[0]),
            "weights": _weight_histograms(engine),
            "activations": {
                name: histogram(found[name]) for name in found if name != "logits" and "weights" not in name
            },
            "neighbours": _neighbours(engine, tokens[0]),
            "positions": _positions(engine),
            "neurons": look_at_neurons(engine, found, tokens, None if contexts is None else contexts.tokens),
            "contexts": 0 if contexts is None else contexts.tokens.numel(),
        }
        data["signs"] = about_signs(data["neurons"])
        data["heads"] = _head_scores(engine)
    scored = tokens.shape[1] > 1
    data["ablation"] = _ablation(engine, tokens, partial(progress, "leaving out each part")) if scored else None
    data["pairs"] = [
        look_at_pair(engine, pair, partial(progress, f"probing with pair {number}"))
        for number, pair in enumerate(pairs, start=1)
    ]
    return data | _gradients(engine, tokens, contexts, partial(progress, "following the gradient"))


def _model(engine: Engine, given: int, tokens: Tensor) -> Look:
    config = engine.model.config
    count = sum(p.numel() for p in engine.model.parameters())  # with adapters
    return {
        "architecture": config.architecture, "parameters": count, "n_layer": config.n_layer, "n_head": config.n_head,
        "n_embd": config.n_embd, "head_dim": config.head_width, "vocab_size": config.vocab_size,
        "context_length": config.context_length, "tokenizer": engine.tokenizer.kind,
        "given": given, "shown": tokens.shape[1],
    }  # fmt: skip


def _tokens(engine: Engine, tokens: Tensor, logits: Tensor) -> list[Look]:
    """Each token with what the model thought of it before it came; the first one came out of nothing."""
    probabilities = logits.softmax(dim=-1)
    rows: list[Look] = [{"id": int(tokens[0]), "text": token_text(engine, int(tokens[0]))}]
    for before, id in zip(probabilities[:-1], tokens[1:].tolist(), strict=True):
        rank = int((before > before[id]).sum()) + 1
        rows.append(
            {
                "id": id, "text": token_text(engine, id), "probability": before[id].item(), "rank": rank,
                "alternatives": likeliest(engine, before, ALTERNATIVES),
            }
        )  # fmt: skip
    return rows


def _quantized(shares: Tensor) -> str:
    """Numbers between 0 and 1 as bytes, base64."""
    return base64.b64encode((shares * 255).round().to(torch.uint8).cpu().numpy().tobytes()).decode()


def _cosine_with_before(stream: list[Tensor]) -> list[list[float]]:
    return [torch.cosine_similarity(a, b, dim=-1).tolist() for a, b in pairwise(stream)]


def _cosine_with_end(stream: list[Tensor]) -> list[list[float]]:
    return [torch.cosine_similarity(a, stream[-1], dim=-1).tolist() for a in stream]


def _contributions(engine: Engine, found: dict[str, Tensor], tokens: Tensor) -> Look | None:
    """Of the logit of each next token; None where the stream is no sum."""
    if not is_sum(engine.model):
        return None
    targets = torch.cat((tokens[:, 1:], found["logits"][-1].argmax().view(1, 1)), dim=1)
    whole = {name: activation[None] for name, activation in found.items()}
    shares = contributions(engine.model, whole, targets)
    if getattr(engine.model.final_norm, "bias", None) is None:
        del shares["bias"]
    return {part_name(name): value[0].tolist() for name, value in shares.items()}


def _lens(engine: Engine, found: dict[str, Tensor], tokens: Tensor) -> list[list[tuple[str, float, float]]]:
    """At each stage and position: the likeliest next token, its probability, and that of the token that came (none at
    the end)."""
    rows = []
    for name in stages(engine.model):
        probabilities = logit_lens(engine.model, found[name]).float().softmax(dim=-1)
        best = probabilities.max(dim=-1)
        came = probabilities[:-1].gather(1, tokens[1:, None])[:, 0].tolist()
        rows.append(
            [
                (token_text(engine, id), p, q)
                for id, p, q in zip(best.indices.tolist(), best.values.tolist(), [*came, None], strict=True)
            ]
        )
    return rows


def _ablation(engine: Engine, tokens: Tensor, progress: Callable[[int, int], None]) -> Look:
    lost = ablate(engine.model, tokens, progress)
    values = {
        "loss": lost.loss, "heads": lost.heads.tolist(), "attention": lost.attention.tolist(), "mlp": lost.mlp.tolist(),
        "embedding": lost.embedding, "least": LEAST_LOSS,
    }  # fmt: skip
    return values | {"ranked": _ranked(values)}


def _gradients(
    engine: Engine, tokens: Tensor, contexts: Batch | None, progress: Callable[[int, int], None]
) -> dict[str, Look | None]:
    if contexts is None or not count_targets(contexts):
        if tokens.shape[1] == 1:
            return {"gradients": None, "gradients_of": None}
        contexts, of = Batch(tokens[:, :-1], tokens[:, 1:]), "prompt"
    else:
        of = "contexts"
    progress(0, 1)
    norms = gradient_norms(engine.model, *contexts)
    progress(1, 1)
    norms = {part_name(name): norm for name, norm in norms.items()}
    return {"gradients": norms, "gradients_of": {"what": of, "targets": count_targets(contexts)}}


def _head_scores(engine: Engine) -> dict[str, list[list[float]]] | None:
    if engine.model.config.context_length < 2 * SHORTEST:
        return None
    tokenizer = engine.tokenizer
    ids = [id for id in range(tokenizer.vocab_size) if id not in tokenizer.specials.values()]
    return {name: score.tolist() for name, score in head_scores(engine.model, ids=ids)._asdict().items()}


def histogram(values: Tensor) -> Look:
    """How often values lie where, between the extremes."""
    # In float32 there may be no numbers between two bins; an Apple GPU has no float64.
    numbers = values.detach().cpu().double().numpy().ravel()
    counts, edges = np.histogram(numbers, bins=BINS)
    return {
        "counts": counts.tolist(), "least": float(edges[0]), "most": float(edges[-1]),
        "mean": float(numbers.mean()), "std": float(numbers.std()), "shape": [*values.shape],
    }  # fmt: skip


def _weight_histograms(engine: Engine) -> dict[str, Look]:
    return {name: histogram(p) for name, p in engine.model.named_parameters() if p.dim() > 1}


def _neighbours(engine: Engine, tokens: Tensor) -> list[Look]:
    """Of each token of the prompt, once, those that are read as something similar."""
    ids = [*dict.fromkeys(tokens.tolist())]
    cosines, rows = similar_rows(engine.model.embedding.float(), ids, NEIGHBOURS)
    return [
        {"text": token_text(engine, id), "near": [(token_text(engine, r), c) for r, c in zip(near, how, strict=True)]}
        for id, near, how in zip(ids, rows.tolist(), cosines.tolist(), strict=True)
    ]


def _positions(engine: Engine) -> Look | None:
    """The cosines between the embeddings of positions, evenly thinned out; None where positions are turned and not added."""
    table = getattr(engine.model, "wpe", None)
    if table is None:
        return None
    step = -(-len(table.weight) // MOST_POSITIONS)
    rows = cosine_table(table.weight[::step].float())
    return {"step": step, "size": len(rows), "cosines": _quantized((rows + 1) / 2)}


def findings(data: Look) -> Look:
    """Of what `look` found, what a report has room for: the lens at the last position only, the parts that help most and those
    that are most in the way. Of a prompt of one token there is no loss: None, and no parts."""
    lost = data["ablation"]
    names = ("model", "tokens", "next", "heads", "stages")
    return {name: data[name] for name in names} | {
        "lens": [row[-1][:2] for row in data["lens"]],
        "loss": lost["loss"] if lost else None,
        "strongest": strongest(lost, least=lost["least"]) if lost else [],
        "opposed": opposed(lost, least=lost["least"]) if lost else [],
    }


def strongest(values: Look, most: int = MOST_PARTS, least: float = -inf) -> list[tuple[float, str]]:
    """The highest of `heads` (L, H), `attention` (L,), `mlp` (L,) and `embedding` (by name), and whose they are; none below
    `least`."""
    return [part for part in _ranked(values) if part[0] >= least][:most]


def opposed(values: Look, most: int = MOST_PARTS, least: float = 0.0) -> list[tuple[float, str]]:
    """As `strongest`, those below 0, the lowest first; none nearer to it than `least`."""
    return [part for part in reversed(_ranked(values)) if part[0] < 0 and part[0] <= -least][:most]


def _ranked(values: Look) -> list[tuple[float, str]]:
    each = [(v, f"layer {i}, head {j}") for i, row in enumerate(values["heads"]) for j, v in enumerate(row)]
    each += [(v, part_name(f"block.{i}.{part}")) for part in ("attention", "mlp") for i, v in enumerate(values[part])]
    each += [(v, part_name(name)) for name, v in values["embedding"].items()]
    return sorted(each, reverse=True)
