"""nanoGPT's `ckpt.pt`: a dict with the weights under `model` and the shape under `model_args` (its train.py and model.py)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.errors import CheckpointError, ConfigError
from glassgpt.formats.huggingface_models import is_gpt2_mask
from glassgpt.formats.layout import Place, parameter_shapes, require_layers, take
from glassgpt.formats.shape import read_settings, tensors_in

COMPILED = "_orig_mod."  # torch.compile's mark before every name


def is_nanogpt(content: Mapping[str, Any]) -> bool:
    return "model_args" in content and "model" in content


def read_nanogpt(content: Mapping[str, Any], source: str) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Shape and weights under our names. nanoGPT computes with the exact GELU (`nn.GELU()`), and ties its embeddings."""
    shape = content["model_args"]
    if not isinstance(shape, dict):
        raise CheckpointError(f"{source}: its model_args are no dict of settings")
    try:
        config = read_settings(
            vocab_size=shape["vocab_size"],
            context_length=shape["block_size"],  # its word
            n_layer=shape["n_layer"],
            n_head=shape["n_head"],
            n_embd=shape["n_embd"],
            dropout=shape.get("dropout", 0.0),
            bias=shape.get("bias", True),
            activation="gelu",
        )
    except (KeyError, ConfigError) as error:
        raise CheckpointError(f"{source}: its model_args describe no model ({error})") from None
    stored = tensors_in(content["model"], source, "model")
    tensors = {name.removeprefix(COMPILED): tensor for name, tensor in stored.items()}
    require_layers(config, tensors, source)
    layout = {name: Place((f"transformer.{name}",)) for name in parameter_shapes(config)}
    head, embedding = tensors.pop("lm_head.weight", None), tensors.get("transformer.wte.weight")
    same = head is not None and embedding is not None and head.dtype == embedding.dtype and head.equal(embedding)
    if head is not None and embedding is not None and not same:
        raise CheckpointError(f"{source}: lm_head.weight differs from transformer.wte.weight; nanoGPT ties the two")
    return config, take(tensors, layout, config, source, is_gpt2_mask)
