"""Parameters and memory of a model by formula: nothing is allocated, so GPT-3 costs as little as a toy."""

from dataclasses import dataclass, fields

from glassgpt.config import GPTConfig

# Of the chunked loss (train/loss.py, which this floor may not look up to; a test holds them equal).
CHUNK_LOGITS, CHUNK_ROWS = 1 << 20, 512
# A process grows by more than its tensors, since freed pieces of the wrong size wait for another use: up to 2.1 times as
# much with glibc, measured over all architectures; the estimate then came to 1.03 to 2.7 times the growth of the process.
ALLOCATOR = 2.2


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
    if config.is_modern:
        groups = (config.n_gram - 1) * config.n_gram_rows if config.architecture == "ngram" else 0
        q_width, kv_width = config.n_head * config.head_width, config.kv_heads * config.head_width
        return ParameterCount(
            embedding=(V + groups) * C,
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


def training_bytes(
    config: GPTConfig,
    *,
    micro_batch_size: int,
    whole_logits: bool = True,
    recompute: bool = False,
    trained: bool = True,
) -> int:
    """Bytes that training in float32 with AdamW takes at most: weights, gradients, two moments, and what a forward keeps
    for its backward. On a CPU no more than three times too high; higher on a GPU with dropout, whose kernel keeps less.

    `whole_logits`: the loss holds the logits of all positions, as the plain loss does (the one that is compiled); the
    chunked one holds those of a few hundred. True is the safe side while it is open which of the two will run.
    `recompute`: with gradient checkpointing, which keeps what goes into a block only.
    `trained`: False where the weights stay as they are, and adapters learn.
    """
    C, F, H, L, V = config.n_embd, config.mlp_width, config.n_head, config.n_layer, config.vocab_size
    T, positions = config.context_length, micro_batch_size * config.context_length
    q_width, kv_width = H * config.head_width, config.kv_heads * config.head_width
    kept = {  # by a block at each position, for its backward: counted with torch's saved_tensors_hooks
        "gpt2": 8 * C + 2 * F,
        "modern": 6 * C + 4 * q_width + 4 * kv_width + 4 * F,
        "ngram": 6 * C + 4 * q_width + 4 * kv_width + 4 * F,
        "textbook": 12 * C + 5 * F,
    }[config.architecture]
    weights = 1 if config.architecture == "textbook" else 0  # of attention, (T, T) a head; the fused kernel writes none
    if config.dropout:
        kept += 2 * C
        if not config.is_modern:  # the fused kernel of a CPU knows none: then weights, mask and masked weights are kept
            weights = 3
    kept += weights * H * T
    # The block at work holds scores, masked scores and weights, however many of them are kept.
    working = kept + (3 - weights) * H * T if weights else kept
    activations = positions * (
        L * (C if recompute else kept) + working + 4 * C
    )  # 4 C: embeddings, last norm, gradient of what it gives
    chunk = min(positions, max(CHUNK_ROWS, CHUNK_LOGITS // V))
    logits = 3 * positions * V if whole_logits else 2 * chunk * V  # whole: log-softmax, its gradient and theirs
    output_gradients = 3 * V * C  # the output matrix has one from the loss and, if tied, one from the embedding
    learning = 4 if trained else 1  # weights alone where adapters learn beside them, few enough to be left out
    return bytes_of(
        learning * count_parameters(config).total + int(ALLOCATOR * activations) + logits + output_gradients
    )


def generation_bytes(config: GPTConfig, batch_size: int) -> int:
    """Bytes that writing `batch_size` texts side by side takes, the weights themselves left out: the cache, a block at work
    on a whole context, and the logits with what sampling makes of them in float64."""
    T, q_width = config.context_length, config.n_head * config.head_width
    cache = 2 * config.n_layer * config.kv_heads * config.head_width * T
    working = T * (4 * q_width + 4 * config.n_embd + 3 * config.mlp_width)
    if config.architecture == "textbook":
        working += 3 * config.n_head * T * T  # scores, masked scores and weights
    return batch_size * (bytes_of(cache + working) + bytes_of(6 * config.vocab_size, 8))
