"""minGPT's state dict (its mingpt/model.py): packed q, k and v, tanh-GELU, an output layer of its own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.formats.huggingface_models import is_gpt2_mask
from glassgpt.formats.layout import Place, parameter_shapes, require_layers, take
from glassgpt.formats.shape import blocks_in, require_heads, shape_of


def is_mingpt(content: Mapping[str, Any]) -> bool:
    """It stores its causal masks; a bare state dict of nanoGPT has the same names without them, and another activation."""
    return "transformer.wte.weight" in content and "transformer.h.0.attn.bias" in content


def read_mingpt(tensors: Mapping[str, Tensor], source: str, n_head: int | None) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Shape and weights under our names. The file has all of the shape but `n_head`."""
    vocab_size, n_embd = shape_of(tensors, "transformer.wte.weight", source)
    config = GPTConfig(
        vocab_size=vocab_size,
        context_length=shape_of(tensors, "transformer.wpe.weight", source)[0],
        n_layer=blocks_in(tensors, r"transformer\.h\.(\d+)\."),
        n_head=require_heads(n_head, source),
        n_embd=n_embd,
        n_inner=shape_of(tensors, "transformer.h.0.mlp.c_fc.weight", source)[0],
        tie_embeddings=False,
    )
    require_layers(config, tensors, source)
    layout = {
        name: Place((name if name.startswith("lm_head") else f"transformer.{name}",))
        for name in parameter_shapes(config)
    }
    return config, take(tensors, layout, config, source, is_gpt2_mask)
