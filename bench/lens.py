"""Activations and patching beside TransformerLens on the same GPT-2 (random weights): equal, and how long each takes.

    pip install transformer-lens
    python bench/lens.py

Both in one process, in turn. Theirs is TransformerLens's bridge to transformers' model, with unprocessed weights, as ours
always are. Writes its part of docs/benchmarks.md and its rows of the README's table.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import io
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here is to be fetched

import torch
import transformers
from claims import machine, spread, write_claims

from glassgpt.checkpoint import load_model
from glassgpt.formats import import_model
from glassgpt.inspection import Pair, attribute, capture
from glassgpt.model import LanguageModel
from train import write_page

COMMAND = "python bench/lens.py"
SIZES = {"12 x 12, 768 wide (GPT-2)": (12, 12, 768), "4 x 4, 128 wide": (4, 4, 128)}
READ, PAIR = 64, 16  # tokens
NAMES = [
    "embedding",
    "hidden",
    *(f"block.*{part}" for part in ("", ".attention", ".mlp", ".weights", ".heads", ".neurons")),
]
# What each of ours is called there.
THEIRS = {
    "": "hook_out",
    ".attention": "attn.hook_out",
    ".mlp": "mlp.hook_out",
    ".weights": "attn.hook_pattern",
    ".heads": "attn.hook_z",
    ".neurons": "mlp.hook_post",
}
EMBEDDINGS, HIDDEN = ("hook_embed", "hook_pos_embed"), "ln_final.hook_out"
ALONE, ALL, WEIGHTS, PATCHED = "the model alone", "every activation", "attention weights", "every head patched"


def both(folder: Path, n_layer: int, n_head: int, n_embd: int) -> tuple[LanguageModel, Any]:
    """The same random GPT-2, no bias of which is 0 and no norm 1, as ours and as theirs."""
    from transformer_lens.model_bridge import TransformerBridge

    torch.manual_seed(1)
    shape = transformers.GPT2Config(n_layer=n_layer, n_head=n_head, n_embd=n_embd, n_positions=128)
    model = transformers.GPT2LMHeadModel(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    name = str(folder / "gpt2")  # by which they know the architecture
    model.save_pretrained(name)
    eager = transformers.GPT2LMHeadModel.from_pretrained(name, attn_implementation="eager").eval()
    theirs = TransformerBridge.boot_transformers(name, hf_model=eager, device="cpu")
    theirs.enable_compatibility_mode(no_processing=True)
    return load_model(import_model(name, folder / "ours")), theirs


def hooks(n_layer: int) -> dict[str, str]:
    return {f"block.{i}{ours}": f"blocks.{i}.{theirs}" for i in range(n_layer) for ours, theirs in THEIRS.items()}


def their_activations(model: Any, tokens: torch.Tensor, names: set[str]) -> Any:
    return model.run_with_cache(tokens, names_filter=lambda name: name in names)[1]


def largest_difference(ours: LanguageModel, theirs: Any, tokens: torch.Tensor) -> float:
    """Of all activations, by the largest value of each."""
    n_layer = len(ours.blocks)
    found = capture(ours, tokens, NAMES)
    cache = their_activations(theirs, tokens, {*EMBEDDINGS, HIDDEN, *hooks(n_layer).values()})
    same = {name: cache[hook] for name, hook in hooks(n_layer).items()}
    same = {name: value.transpose(1, 2) if name.endswith(".heads") else value for name, value in same.items()}
    same |= {"embedding": sum(cache[hook] for hook in EMBEDDINGS), "hidden": cache[HIDDEN], "logits": theirs(tokens)}
    assert same.keys() == found.keys()
    return max(((found[name] - value).abs().max() / value.abs().max()).item() for name, value in same.items())


def a_pair(model: LanguageModel, n_tokens: int) -> Pair:
    """Two texts that differ in one token, and the answers between which that makes most difference."""
    text = torch.randint(model.config.vocab_size, (n_tokens,))
    other = text.clone()
    other[n_tokens // 3] += 1 if text[n_tokens // 3] == 0 else -1
    after, after_other = model(torch.stack((text, other)))[:, -1]
    change = after - after_other
    return Pair(text, int(change.argmax()), other, int(change.argmin()))


def their_heads(model: Any, pair: Pair) -> torch.Tensor:
    """What `attribute` says of heads, (L, H), by TransformerLens's own patching in both directions."""
    from transformer_lens import patching

    def preference(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, pair.answer] - logits[0, -1, pair.other_answer]

    texts = [(pair.text[None], preference), (pair.other_text[None], lambda logits: -preference(logits))]
    runs = [model.run_with_cache(text, names_filter=lambda name: name.endswith("hook_z")) for text, _ in texts]
    whole = sum(metric(logits) for (logits, _), (_, metric) in zip(runs, texts, strict=True))
    with contextlib.redirect_stderr(io.StringIO()):  # their progress bars
        left = sum(
            patching.get_act_patch_attn_head_out_all_pos(model, text, cache, metric)
            for (text, metric), (_, cache) in zip(texts, reversed(runs), strict=True)
        )
    return (whole - left) / (2 * whole)


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turn(ours: LanguageModel, theirs: Any, rounds: int) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """Seconds of ours and of theirs for each piece of work; and by how much the shares of heads differ."""
    tokens, n_layer = torch.randint(ours.config.vocab_size, (1, READ)), len(ours.blocks)
    every = {*EMBEDDINGS, HIDDEN, *hooks(n_layer).values()}
    weights = {hook for hook in every if hook.endswith("hook_pattern")}
    pair = a_pair(ours, PAIR)
    works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        ALONE: (lambda: ours(tokens), lambda: theirs(tokens)),
        ALL: (lambda: capture(ours, tokens, NAMES), lambda: their_activations(theirs, tokens, every)),
        WEIGHTS: (
            lambda: capture(ours, tokens, ["block.*.weights"]),
            lambda: their_activations(theirs, tokens, weights),
        ),
        PATCHED: (lambda: attribute(ours, pair), lambda: their_heads(theirs, pair)),
    }
    seconds = {}
    for name, pieces in works.items():
        long = name == PATCHED
        for piece in pieces:
            piece()
        seconds[name] = [tuple(map(timed, pieces)) for _ in range(rounds if long else 5 * rounds)]
        print(
            f"  {name:20} {' beside '.join(shown(list(side)) for side in zip(*seconds[name], strict=True))}", flush=True
        )
    return seconds, (attribute(ours, pair).heads - their_heads(theirs, pair)).abs().max().item()


def shown(seconds: list[float]) -> str:
    if min(seconds) >= 1:
        return f"{spread(seconds)} s"
    return f"{spread([1000 * s for s in seconds], 1 if min(seconds) < 0.1 else 0)} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of patching; of the rest five times as many [3]")
    options = parser.parse_args()
    if importlib.util.find_spec("transformer_lens") is None:
        sys.exit(
            "this compares with TransformerLens, which is not here; pip install transformer-lens (4.3.0 was measured)"
        )
    logging.disable(logging.WARNING)
    version = f"TransformerLens {importlib.metadata.version('transformer-lens')}"
    lines, figures = [], {}
    for name, shape in SIZES.items():
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            print(name, flush=True)
            ours, theirs = both(Path(folder), *shape)
            off = largest_difference(ours, theirs, torch.randint(ours.config.vocab_size, (2, READ)))
            seconds, off_patched = in_turn(ours, theirs, options.rounds)
        assert max(off, off_patched) < 1e-4, (off, off_patched)
        for what, pairs in seconds.items():
            mine, others = (list(side) for side in zip(*pairs, strict=True))
            times = spread([other / own for own, other in pairs], 2)
            lines.append(f"| {name} | {what} | {shown(mine)} | {shown(others)} | {times} |")
            figures[f"{name}: {what}"] = f"{shown(mine)}; {version} {shown(others)}, {times} times as long"
        figures[f"{name}: largest difference to {version}"] = (
            f"{off:.0e} of activations, {off_patched:.0e} of patched heads"
        )
    write_page("lens", {"text": page(lines, figures, version)})
    wide = next(iter(SIZES))
    kept = {f"{wide}: {what}" for what in (ALL, PATCHED)}
    write_claims(COMMAND, {claim: figure for claim, figure in figures.items() if claim in kept})


def page(lines: list[str], figures: dict[str, str], version: str) -> str:
    rows = "\n".join(lines)
    equal = "\n".join(f"* {claim}: {figure}." for claim, figure in figures.items() if "difference" in claim)
    return f"""## Looking inside, beside TransformerLens

`{COMMAND}`: the same random GPT-2 in both, in one process, in turn; {READ} tokens read, pairs of {PAIR} tokens. Medians
(least to most). TransformerLens runs transformers' model with its eager attention and unprocessed weights
(`enable_compatibility_mode(no_processing=True)`). Every activation: the embedding, the residual stream, what attention and MLP
add to it, attention weights, heads and neurons of each layer, the last norm. Every head patched: what each gives at all
positions is taken from another text, in both directions, `get_act_patch_attn_head_out_all_pos` beside `attribute`, which
exchanges each whole attention and MLP besides, all parts of a layer at once and only from that layer on.

{equal}

Activations differ by so much of the largest value of their tensor, patched heads by so much of the shares that they carry.

| layers x heads | what | glassgpt | {version} | times as long |
|---|---|---|---|---|
{rows}

{datetime.date.today().isoformat()}, {machine()}.
"""


if __name__ == "__main__":
    main()
