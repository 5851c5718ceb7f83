"""Parameters of a model by formula: nothing is allocated, so GPT-3 costs as little as a toy."""

from dataclasses import dataclass, fields

from glassgpt.config import GPTConfig


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    embedding: int
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
    if config.architecture == "modern":
        q_width, kv_width = config.n_head * config.head_width, config.kv_heads * config.head_width
        return ParameterCount(
            embedding=V * C,
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
        positions=config.context_length * C,
        attention=L * (4 * C * C + (3 * qkv_bias + bias) * C),
        mlp=L * (2 * C * F + bias * (F + C)),
        norms=(2 * L + 1) * (1 + bias) * C,
        head=head,
    )


def bytes_of(parameters: int, bytes_each: int = 4) -> int:
    """Memory of so many numbers, float32 unless said otherwise; divide by 2**20 for MiB, by 10**6 for MB."""
    return parameters * bytes_each


def training_bytes(config: GPTConfig, *, micro_batch_size: int) -> int:
    """Estimated memory of training in float32 with AdamW: weights, gradients and two moments, and what one forward keeps
    for its backward. A coarse upper estimate, good for deciding what fits."""
    parameters = count_parameters(config).total
    kept_per_layer = 12 * config.n_embd + 3 * config.mlp_width
    kept_per_position = config.n_layer * kept_per_layer + 4 * config.vocab_size  # logits, their softmax and gradients
    activations = micro_batch_size * config.context_length * kept_per_position
    return bytes_of(4 * parameters + activations)
