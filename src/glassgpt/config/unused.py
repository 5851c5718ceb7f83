"""Which settings play no part beside which choices: one place for what is refused and for what a page leaves out."""

from collections.abc import Mapping
from typing import Any

Table = Mapping[str, Mapping[Any, tuple[str, ...]]]  # choice -> its value -> the settings that play no part then

# Whoever asks for one of these would get something else in silence, so that it is refused.
REFUSED: Table = {
    "architecture": {
        "gpt2": ("rope_theta", "n_gram", "n_gram_rows"),
        "modern": ("bias", "qkv_bias", "n_gram", "n_gram_rows"),
        "ngram": ("bias", "qkv_bias"),
        "textbook": ("rope_theta", "n_gram", "n_gram_rows"),
    },
    "optimizer": {"adamw": ("matrix_learning_rate", "momentum")},
}
# These say what is so anyway (the checks of GPTConfig let nothing else pass), or wait for the choice that wants them.
IDLE: Table = {
    "architecture": {
        "gpt2": ("n_kv_head", "head_dim", "norm_position", "residual"),
        "modern": ("activation", "norm_position", "residual"),
        "ngram": ("activation", "norm_position", "residual"),
        "textbook": ("n_kv_head", "head_dim"),
    },
    "bias": {False: ("qkv_bias",)},
    "task": {"labels": ("tie_embeddings",)},
    "schedule": {"constant": ("decay_to",)},
    "minutes": {0.0: ("minutes",)},
    "lora": {0: ("lora_alpha", "lora_on")},
}


def without_part(values: Mapping[str, Any], *tables: Table) -> set[str]:
    """The names of those that play no part beside the others, by `tables`."""
    return {name for table in tables for choice, by_value in table.items() for name in by_value.get(values[choice], ())}
