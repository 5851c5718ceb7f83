"""The state dict of "Build a Large Language Model (From Scratch)" (its ch04): separate W_query, W_key and W_value, an output
layer of its own, tanh-GELU, biases everywhere but, where `qkv_bias` is off, on q, k and v."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.formats.layout import Layout, Place, require_layers, take
from glassgpt.formats.shape import blocks_in, require_heads, shape_of


def is_book(content: Mapping[str, Any]) -> bool:
    return "tok_emb.weight" in content and any(name.startswith("trf_blocks.") for name in content)


def read_book(tensors: Mapping[str, Tensor], source: str, n_head: int | None) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Shape and weights under our names. The file has all of the shape but `n_head`."""
    vocab_size, n_embd = shape_of(tensors, "tok_emb.weight", source)
    config = GPTConfig(
        vocab_size=vocab_size,
        context_length=shape_of(tensors, "pos_emb.weight", source)[0],
        n_layer=blocks_in(tensors, r"trf_blocks\.(\d+)\."),
        n_head=require_heads(n_head, source),
        n_embd=n_embd,
        n_inner=shape_of(tensors, "trf_blocks.0.ff.layers.0.weight", source)[0],
        qkv_bias="trf_blocks.0.att.W_query.bias" in tensors,
        tie_embeddings=False,
    )
    require_layers(config, tensors, source)
    return config, take(tensors, book_layout(config), config, source, is_book_mask)


def is_book_mask(name: str, shape: tuple[int, ...], config: GPTConfig) -> bool:
    """`trf_blocks.0.att.mask`, (T, T)."""
    T = config.context_length
    match = re.fullmatch(r"trf_blocks\.(\d{1,6})\.att\.mask", name)
    return match is not None and int(match[1]) < config.n_layer and shape == (T, T)


def book_layout(config: GPTConfig) -> Layout:
    layout = {
        "wte.weight": Place(("tok_emb.weight",)),
        "wpe.weight": Place(("pos_emb.weight",)),
        "ln_f.weight": Place(("final_norm.scale",)),
        "ln_f.bias": Place(("final_norm.shift",)),
        "lm_head.weight": Place(("out_head.weight",)),
    }
    for i in range(config.n_layer):
        ours, theirs = f"h.{i}", f"trf_blocks.{i}"
        for end in ("weight", "bias"):
            layout |= {
                f"{ours}.attn.c_attn.{end}": Place(
                    tuple(f"{theirs}.att.{name}.{end}" for name in ("W_query", "W_key", "W_value"))
                ),
                f"{ours}.attn.c_proj.{end}": Place((f"{theirs}.att.out_proj.{end}",)),
                f"{ours}.mlp.c_fc.{end}": Place((f"{theirs}.ff.layers.0.{end}",)),
                f"{ours}.mlp.c_proj.{end}": Place((f"{theirs}.ff.layers.2.{end}",)),
            }
        for norm, number in (("ln_1", 1), ("ln_2", 2)):
            layout[f"{ours}.{norm}.weight"] = Place((f"{theirs}.norm{number}.scale",))
            layout[f"{ours}.{norm}.bias"] = Place((f"{theirs}.norm{number}.shift",))
    return layout
