"""Parameters, operations and memory of a model by formula: nothing is allocated, so GPT-3 costs as little as a toy."""

from dataclasses import dataclass, fields

from glassgpt.config import GPTConfig


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    embedding: int
    n_grams: int
    positions: int
    attention: int
    mlp: int
    norms: int
    head: int

    @property
    def total(self) -> int:
        return sum(getattr(self, f.name) for f in fields(self))

    @property
    def without_head(self) -> int:
        return self.total - self.head


def count_parameters(config: GPTConfig) -> ParameterCount:
    """Learned numbers by part; a tied output layer counts once, as the embedding."""
    C, L, V = config.n_embd, config.n_layer, config.vocab_size
    head = 0 if config.tie_embeddings else V * C
    if config.is_modern:
        groups = (config.n_gram - 1) * config.n_gram_rows if config.architecture == "ngram" else 0
        q_width, kv_width = config.n_head * config.head_width, config.kv_heads * config.head_width
        return ParameterCount(
            embedding=V * C,
            n_grams=groups * C,
            positions=0,
            attention=L * (2 * C * q_width + 2 * C * kv_width),
            mlp=L * 3 * C * config.mlp_width,
            norms=L * (2 * C + 2 * config.head_width) + C,
            head=head,
        )
    bias, qkv_bias = int(config.bias), int(config.bias and config.qkv_bias)
    F = config.mlp_width
    return ParameterCount(
        embedding=V * C,
        n_grams=0,
        positions=config.context_length * C,
        attention=L * (4 * C * C + (3 * qkv_bias + bias) * C),
        mlp=L * (2 * C * F + bias * (F + C)),
        norms=(2 * L + 1) * (1 + bias) * C,
        head=head,
    )


def training_flops(config: GPTConfig) -> int:
    """Floating-point operations of forward and backward for one token: six for each weight of a matrix that it is multiplied
    with, and 12 T for each dimension of every head (Chowdhery et al. 2022, 2204.02311, appendix B; the half of the attention
    that is masked counts, as it does everywhere)."""
    count = count_parameters(config)
    attention = config.n_layer * config.n_head * config.head_width * config.context_length
    return 6 * (count.attention + count.mlp + config.vocab_size * config.n_embd) + 12 * attention


def bytes_of(parameters: int, bytes_each: int = 4) -> int:
    """Memory of so many numbers, float32 unless said otherwise; divide by 2**20 for MiB, by 10**6 for MB."""
    return parameters * bytes_each


def generation_bytes(config: GPTConfig, batch_size: int) -> int:
    """Bytes that writing `batch_size` texts side by side takes, the weights themselves left out: the cache, a block at work
    on a whole context, and the logits with what sampling makes of them in float64."""
    T, q_width = config.context_length, config.n_head * config.head_width
    cache = 2 * config.n_layer * config.kv_heads * config.head_width * T
    working = T * (4 * q_width + 4 * config.n_embd + 3 * config.mlp_width)
    if config.architecture == "textbook":
        working += 3 * config.n_head * T * T  # scores, masked scores and weights
    return batch_size * (bytes_of(cache + working) + bytes_of(6 * config.vocab_size, 8))
