"""The shape of a model and its learned numbers by part."""

from typing import Any

from glassgpt.config import GPTConfig, RunConfig
from glassgpt.config.schema import DEFAULT_BPE_VOCABULARY, FinetuneConfig
from glassgpt.errors import ConfigError
from glassgpt.model.size import count_adapters, count_parameters

# A vocabulary that is made of the text has no size before there is a text. For char that of the best-known small text.
TRAINED_VOCABULARY = {"char": 65, "byte": 257, "bpe": DEFAULT_BPE_VOCABULARY, "gpt2": 50257}


def with_vocabulary(config: RunConfig) -> tuple[RunConfig, bool]:
    """And whether its size is only a guess."""
    if config.model.vocab_size:
        return config, False
    size = TRAINED_VOCABULARY.get(config.data.tokenizer)
    if size is None:
        raise ConfigError(
            f"the vocabulary of tokenizer {config.data.tokenizer} is not read for a plan; say how large it is: --vocab-size N"
        )
    return config.resolved(vocab_size=size), config.data.tokenizer in ("char", "bpe")


def shape(c: GPTConfig) -> dict[str, int]:
    return {
        "n_layer": c.n_layer, "n_head": c.n_head, "n_kv_head": c.kv_heads, "n_embd": c.n_embd, "head_dim": c.head_width,
        "mlp_width": c.mlp_width, "context_length": c.context_length, "vocab_size": c.vocab_size,
    }  # fmt: skip


def parameters(c: GPTConfig, finetune: FinetuneConfig) -> dict[str, Any]:
    """By part, in all with and without a tied output layer, and by the rule of thumb 12 n_layer n_embd^2."""
    count, adapters = count_parameters(c), count_adapters(c, finetune)
    return {
        "embedding": count.embedding,
        "n_grams": count.n_grams,
        "positions": count.positions,
        "attention": count.attention,
        "mlp": count.mlp,
        "norms": count.norms,
        "head": count.head,
        "adapters": adapters,
        "total": count.total + adapters,
        "tied": count.without_head + adapters,
        "untied": count.without_head + adapters + c.vocab_size * c.n_embd,
        "in_blocks": count.attention + count.mlp,
        "rule_of_thumb": 12 * c.n_layer * c.n_embd**2,
    }
