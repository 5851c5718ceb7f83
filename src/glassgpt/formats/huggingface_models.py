"""The model types of transformers that our architectures are: GPT-2 and Qwen3. What their config.json calls each setting, and
where each tensor lies.

Sources: transformers' `models/gpt2` and `models/qwen3`, `configuration_*.py` and `modeling_*.py`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from glassgpt.config import GPTConfig
from glassgpt.errors import CheckpointError, ConfigError
from glassgpt.formats.layout import Layout, Place, parameter_shapes
from glassgpt.formats.shape import read_settings


class ModelType(NamedTuple):
    read_config: Callable[[Mapping[str, Any]], GPTConfig]
    write_config: Callable[[GPTConfig], dict[str, Any]]
    layout: Callable[[GPTConfig], Layout]
    prefix: str  # before every name but lm_head's; left out where somebody saved the model without its head
    is_ignored: Callable[[str, tuple[int, ...], GPTConfig], bool] = lambda name, shape, config: False


# GPT-2. Its linear layers are stored as `Conv1D`, (in, out): a transposed Linear.

_ACTIVATIONS: dict[str, Literal["gelu_tanh", "gelu", "relu"]] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}


def read_gpt2_config(config: Mapping[str, Any]) -> GPTConfig:
    refuse(config, {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False})
    activation = config.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise CheckpointError(f"activation_function {activation!r} is none of {', '.join(_ACTIVATIONS)}")
    return read_settings(
        architecture="textbook" if activation == "relu" else "gpt2",
        activation=_ACTIVATIONS[activation],
        vocab_size=config["vocab_size"],
        context_length=config["n_positions"],
        n_layer=config["n_layer"],
        n_head=config["n_head"],
        n_embd=config["n_embd"],
        n_inner=config.get("n_inner") or 0,
        dropout=config.get("resid_pdrop", 0.1),
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        tie_embeddings=config.get("tie_word_embeddings", True),
    )


def write_gpt2_config(config: GPTConfig) -> dict[str, Any]:
    if config.norm_position == "post" or not config.residual:
        raise ConfigError(
            "GPT-2's format knows neither norm_position post nor residual false; this model cannot be written"
        )
    names = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": names[config.activation],
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_inner": config.n_inner or None,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "scale_attn_weights": True,
    }


def gpt2_layout(config: GPTConfig) -> Layout:
    transposed = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    return {
        name: Place((name if name.startswith("lm_head") else f"transformer.{name}",), name.endswith(transposed))
        for name in parameter_shapes(config)
    }


def is_gpt2_mask(name: str, shape: tuple[int, ...], config: GPTConfig) -> bool:
    """Stored causal masks of older files: `h.0.attn.bias` (1, 1, T, T) and the number `h.0.attn.masked_bias`."""
    T = config.context_length
    match = re.fullmatch(r"(?:transformer\.)?h\.(\d{1,6})\.attn\.(bias|masked_bias)", name)
    expected = {"bias": (1, 1, T, T), "masked_bias": ()}
    return match is not None and int(match[1]) < config.n_layer and shape == expected[match[2]]


# Qwen3. Our names are its names.


def read_qwen3_config(config: Mapping[str, Any]) -> GPTConfig:
    refuse(
        config,
        {"attention_bias": False, "hidden_act": "silu", "use_sliding_window": False, "partial_rotary_factor": 1.0},
    )
    rope_theta = read_rope_theta(config)
    return read_settings(
        architecture="modern",
        vocab_size=config["vocab_size"],
        context_length=config["max_position_embeddings"],
        n_layer=config["num_hidden_layers"],
        n_head=config["num_attention_heads"],
        n_kv_head=config["num_key_value_heads"],
        n_embd=config["hidden_size"],
        head_dim=config.get("head_dim") or 0,
        n_inner=config["intermediate_size"],
        norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_theta=rope_theta,
        tie_embeddings=config.get("tie_word_embeddings", False),
    )


def read_rope_theta(config: Mapping[str, Any]) -> Any:
    """From `rope_parameters` (transformers 5) or `rope_theta` (4). Whatever changes the positions otherwise is refused."""
    theta = config.get("rope_theta", 10_000.0)
    for place in ("rope_scaling", "rope_parameters"):
        rope = config.get(place)
        if rope is None:
            continue
        if not isinstance(rope, dict):
            raise CheckpointError(f"{place} is {rope!r}, not a table of settings")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise CheckpointError(f"rope_type {kind!r} is not known here; only the plain rotary positions are")
        unknown = rope.keys() - {"rope_type", "type", "rope_theta"}
        if unknown:
            raise CheckpointError(
                f"{place} sets {min(unknown)}, which is not known here; only the plain rotary positions are"
            )
        theta = rope.get("rope_theta", theta)
    return theta


def write_qwen3_config(config: GPTConfig) -> dict[str, Any]:
    if config.architecture == "ngram":
        raise ConfigError(
            "no format but GlassGPT's own knows architecture ngram; a model trained with --architecture modern can be written"
        )
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads,
        "hidden_size": config.n_embd,
        "head_dim": config.head_width,
        "intermediate_size": config.mlp_width,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,  # where transformers 4 and llama.cpp look; 5 looks below
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "sliding_window": None,
        "use_sliding_window": False,
        "tie_word_embeddings": config.tie_embeddings,
    }


def qwen3_layout(config: GPTConfig) -> Layout:
    return {name: Place((name,)) for name in parameter_shapes(config)}


MODEL_TYPES: dict[str, ModelType] = {
    "gpt2": ModelType(read_gpt2_config, write_gpt2_config, gpt2_layout, "transformer.", is_gpt2_mask),
    "qwen3": ModelType(read_qwen3_config, write_qwen3_config, qwen3_layout, "model."),
}
MODEL_TYPE_OF = {"gpt2": "gpt2", "textbook": "gpt2", "modern": "qwen3", "ngram": "qwen3"}


def refuse(config: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Settings that would make another function of the same weights."""
    for name, value in known.items():
        if config.get(name, value) != value:
            raise CheckpointError(f"{name} is {config[name]!r}; the models here compute with {value!r}")
