"""Parameters, operations and memory of a model by formula: nothing is allocated, so GPT-3 costs as little as a toy."""

from dataclasses import dataclass, fields

from glassgpt.config import GPTConfig
from glassgpt.config.schema import FinetuneConfig


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


def hidden_matrices(config: GPTConfig) -> int:
    """Numbers in the matrices in blocks: what Muon moves."""
    count, biases = count_parameters(config), 0
    if not config.is_modern and config.bias:
        C, F = config.n_embd, config.mlp_width
        biases = config.n_layer * ((3 * C if config.qkv_bias else 0) + C + F + C)
    return count.attention + count.mlp - biases


def count_adapters(config: GPTConfig, finetune: FinetuneConfig) -> int:
    """Learned numbers of LoRA: for each matrix that it is on, as many as rank times its two sides."""
    C, F = config.n_embd, config.mlp_width
    q_width, kv_width = config.n_head * config.head_width, config.kv_heads * config.head_width
    attention, mlp = 4 * C + 2 * C, 2 * (C + F)
    if config.is_modern:
        attention, mlp = 2 * (C + q_width) + 2 * (C + kv_width), 3 * (C + F)
    sides = {"attention": attention, "mlp": mlp, "all": attention + mlp}[finetune.lora_on]
    return config.n_layer * finetune.lora * sides


def training_flops(config: GPTConfig) -> int:
    """Floating-point operations of forward and backward for one token: six for each weight of a matrix that it is multiplied
    with, and 12 T for each dimension of every head (Chowdhery et al. 2022, 2204.02311, appendix B; the half of the attention
    that is masked counts, as it does everywhere)."""
    return 6 * (hidden_matrices(config) + config.vocab_size * config.n_embd) + 3 * attention_flops(config)


def attention_flops(config: GPTConfig) -> int:
    """Of a forward for one token: queries with keys, weights with values, none of which is learned."""
    return 4 * config.n_layer * config.n_head * config.head_width * config.context_length


def bytes_of(parameters: int, bytes_each: int = 4) -> int:
    """Memory of so many numbers, float32 unless said otherwise; divide by 2**20 for MiB, by 10**6 for MB."""
    return parameters * bytes_each


def cache_bytes(config: GPTConfig, batch_size: int) -> int:
    """Of keys and values of a whole context in float32."""
    return bytes_of(2 * batch_size * config.n_layer * config.kv_heads * config.head_width * config.context_length)


def generation_bytes(config: GPTConfig, batch_size: int) -> int:
    """Bytes that writing `batch_size` texts side by side takes, the weights themselves left out: the cache, a block at work
    on a whole context, and the logits with what sampling makes of them in float64."""
    T, q_width = config.context_length, config.n_head * config.head_width
    working = T * (4 * q_width + 4 * config.n_embd + (3 if config.is_modern else 2) * config.mlp_width)
    if config.architecture == "textbook":
        working += 3 * config.n_head * T * T  # scores, masked scores and weights
    return cache_bytes(config, batch_size) + batch_size * (bytes_of(working) + bytes_of(6 * config.vocab_size, 8))
