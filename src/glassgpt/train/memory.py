"""Memory of a training step by formula: nothing is allocated, so GPT-3 costs as little as a toy. The tests hold every part
against the tensors of a real step, counted one by one (tests/train/test_memory.py)."""

from dataclasses import dataclass
from typing import NamedTuple

from glassgpt.config import GPTConfig, RunConfig
from glassgpt.model.size import bytes_of, count_adapters, count_parameters, hidden_matrices
from glassgpt.train.evaluate import TOKENS_AT_ONCE
from glassgpt.train.loss import CHUNK_WORDS, chunk_rows
from glassgpt.train.trial import trial_rows

# A process grows by more than its tensors. What a step allocates and frees has pieces between it that stay, so that the same
# size rarely fits into the place that it left: with glibc as much as so many blocks take, measured over all presets. In a
# trial of both precisions the one finds no place in what the other has left.
FRAGMENTATION = {"float32": 1.5, "bfloat16": 2.5}
FRAGMENTATION_BOTH = 3.0
FEWEST_LAYERS = 3  # of fewer, the blocks are not all that lies there
# The same of a step whose blocks are computed twice, and of a validation, which keeps none: shares of all that they take.
FRAGMENTATION_RECOMPUTED, FRAGMENTATION_VALIDATED = 0.45, 0.35
# glibc gives a thread its heap in pieces of so many bytes, less what it notes there itself.
ARENA = (64 << 20) - (1 << 16)
REUSED = 0.5  # of what steps have left, by the larger pieces of a validation
LABELS = 2  # stand for any number of them
# What `glassgpt train` loads after torch: tokenizer, plot, kernels. Measured with a model of no size.
LOADED = 80 << 20


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes at the moment of a step that takes the most. `activations`: what a forward keeps for its backward, and what the
    computation at hand needs beside it; `logits`: of the loss, with their gradients."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    # The same of each for itself, whenever it takes the most.
    most_activations: int
    most_logits: int
    fragmentation: int  # what of the heap is lost while a step is done, on a CPU
    heap: int  # what activations and logits take of it, with what is lost between them

    @property
    def tensors(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.step

    @property
    def step(self) -> int:
        """What a step takes and gives back."""
        return self.activations + self.logits

    @property
    def checkpoint(self) -> int:
        """The copy that is written while training goes on, where there is room for it."""
        return self.weights + self.optimizer

    @property
    def growth(self) -> int:
        """What the process grows by on a CPU."""
        return self.tensors + self.fragmentation


def training_memory(
    config: RunConfig,
    micro_batch_size: int,
    *,
    accumulates: bool | None = None,
    whole_logits: bool = False,
    on_cpu: bool = True,
) -> TrainingMemory:
    """Of a step of one replica, in float32, or in bfloat16 where that is what the precision is set to. `accumulates`:
    gradients are there before a forward begins; by itself where a step has several micro batches. `whole_logits`: the loss is
    the plain one, which holds the logits of all positions (torch.compile runs that)."""
    c, half, trained = config.model, config.machine.precision == "bfloat16", not config.finetune.lora
    C, V, N = c.n_embd, outputs(config), micro_batch_size * c.context_length
    each = 2 if half else 4  # bytes of what a matrix product takes and gives
    count = count_parameters(c)
    adapters = 0 if trained else count_adapters(c, config.finetune)
    learning = bytes_of(count.total if trained else adapters)
    gradients, embedding, output = learning, 0, 0
    if trained:
        embedding, output = bytes_of(count.embedding + count.n_grams), bytes_of(V * C)
    accumulates = config.train.batch_size > micro_batch_size if accumulates is None else accumulates
    before = gradients if accumulates else 0  # when a forward begins

    block = N * kept_by_block(c, half, on_cpu)
    working = N * (working_in_block(c, half) + 4 * C)
    kept = N * (4 * C * (4 if c.dropout else 3) + 24)  # embedded, normed, their gradient; tokens, targets
    kept += 2 * hidden_matrices(c) if half else 0  # converted, for all of the forward
    if config.train.gradient_checkpointing:
        kept, working = kept + c.n_layer * N * 4 * C, working + block
    else:
        kept += c.n_layer * block

    rows = min(N, chunk_rows(V))
    logits, converted = 4 * rows * V, 2 * rows * V if half else 0
    earlier = converted if rows < N else 0  # the chunk before has not gone yet
    slices = rows * C * each + max(rows, min(V, CHUNK_WORDS)) * C * each
    in_chunk = logits + max(earlier + rows * min(V, CHUNK_WORDS) * each, earlier + converted, converted + slices)
    in_chunk += 2 * (V + rows) * C if half else 0
    whole = 4 * N * V if whole_logits else 0

    moments = [  # activations, logits, gradients
        (kept, output + (3 * whole or in_chunk), before),
        (kept + 4 * N * C, 2 * output + whole, before),  # the first gradients, those of the loss
        (kept + working, output + whole, before),  # those of the last block
        (8 * N * C + (embedding if before else 0), output, gradients),  # those of the embedding
        (working_in_optimizer(config) if trained else 0, 0, gradients),
    ]
    activations, of_loss, of_weights = max(moments, key=sum)
    of_forward = max(some + others for some, others, _ in moments[:3])
    share = share_of_step(c, FRAGMENTATION["bfloat16" if half else "float32"])
    if config.train.gradient_checkpointing:
        share = FRAGMENTATION_RECOMPUTED
    fragmentation = share * of_forward
    if 2 * embedding > of_forward:  # among the pieces of a forward its gradient finds no place
        of_all = of_forward + gradients + (embedding if before else 0)
        fragmentation += max(0, of_all - activations - of_loss - of_weights)
    return TrainingMemory(
        weights=bytes_of(count.total + adapters),
        gradients=of_weights,
        optimizer=optimizer_bytes(config) if trained else 2 * learning,
        activations=activations,
        logits=of_loss,
        most_activations=kept + working,
        most_logits=3 * whole or in_chunk,
        fragmentation=int(fragmentation),
        heap=int((1 + share) * of_forward),
    )


class ProcessMemory(NamedTuple):
    """Bytes of a training process on a CPU at its peak, whose sum it takes. `step`: activations and logits."""

    python_and_torch: int
    weights: int
    gradients: int
    optimizer: int
    step: int
    fragmentation: int
    validation: int  # what it takes beyond the places that steps have left
    trial: int  # what the trial of a precision, before all this, took beyond it
    checkpoint: int

    @property
    def total(self) -> int:
        return sum(self)


def process_memory(
    config: RunConfig,
    micro_batch_size: int,
    *,
    replicas: int = 1,
    before: int,
    with_copy: bool = True,
    with_trial: bool = True,
) -> ProcessMemory:
    """The most that a training process takes on a CPU. `before`: what it has before it builds a model. Each further replica
    has a part of the heap to itself, and gradients, which are gone when its next micro batch begins. `with_copy`: a checkpoint
    is written on the way; `with_trial`: bfloat16 is tried before, as in a long run that asks for no precision."""
    whole = config.machine.compile == "on"
    accumulates = config.train.batch_size > micro_batch_size * replicas
    one = training_memory(config, micro_batch_size, accumulates=accumulates, whole_logits=whole)
    others = [training_memory(config, micro_batch_size, accumulates=False, whole_logits=whole)] * (replicas - 1)
    all_of = [one, *others]
    lost = [FRAGMENTATION_VALIDATED] + [lost_in_arena(config)] * len(others)
    training = ProcessMemory(
        python_and_torch=before + LOADED,
        weights=one.weights,
        gradients=sum(each.gradients for each in all_of),
        optimizer=one.optimizer,
        step=sum(each.step for each in all_of),
        fragmentation=sum(each.fragmentation for each in all_of),
        validation=sum(
            max(0, int((1 + share) * evaluation_bytes(config) - REUSED * each.heap))
            for share, each in zip(lost, all_of, strict=True)
        ),
        trial=0,
        checkpoint=one.checkpoint if with_copy else 0,
    )
    tried = 0
    if with_trial:
        tried = before + one.weights + training.gradients + trial_bytes(config, micro_batch_size * replicas)
    return training._replace(trial=max(0, tried - training.total))


def trial_bytes(config: RunConfig, rows: int) -> int:
    """What the trial of a precision takes and gives back, of at most so many rows."""
    rows = min(rows, trial_rows(config.model.context_length))
    fragmentation = share_of_step(config.model, FRAGMENTATION_BOTH)
    return int((1 + fragmentation) * training_memory(config.resolved(precision="float32"), rows).step)


def outputs(config: RunConfig) -> int:
    """How many logits a position has: one for each word of the vocabulary, or for each label."""
    return LABELS if config.data.task == "labels" else config.model.vocab_size


def share_of_step(c: GPTConfig, blocks: float) -> float:
    """So many blocks, of all that a step holds."""
    return blocks / max(FEWEST_LAYERS, c.n_layer)


def lost_in_arena(config: RunConfig) -> float:
    """Of a validation in a thread of its own, as a share of what it takes: of pieces larger than half an arena's each takes a
    whole one."""
    piece = bytes_of(positions_at_once(config.model) * config.model.mlp_width)
    waste = ARENA / (piece * (ARENA // piece)) - 1 if piece <= ARENA else 1.0
    return max(FRAGMENTATION_VALIDATED, waste)


def positions_at_once(c: GPTConfig) -> int:
    """Of a validation: whole windows."""
    return max(1, TOKENS_AT_ONCE // c.context_length) * c.context_length


def evaluation_bytes(config: RunConfig) -> int:
    """Of a validation in float32: a block at work, and a chunk of the loss."""
    c, V = config.model, outputs(config)
    positions = positions_at_once(c)
    inside = 3 * c.mlp_width if c.is_modern else 2 * c.mlp_width
    weights = 3 * c.n_head * c.context_length if c.architecture == "textbook" else 0
    rows = min(positions, chunk_rows(V))
    return bytes_of(positions * (3 * c.n_embd + inside + weights) + rows * (V + min(V, CHUNK_WORDS)))


def kept_by_block(c: GPTConfig, half: bool, on_cpu: bool) -> int:
    """Bytes at each position that a block keeps for its backward, as autograd does on a CPU; where `half`, all that goes
    into a matrix product is bfloat16."""
    C, F, H, K, T = c.n_embd, c.mlp_width, c.n_head, c.kv_heads, c.context_length
    q_width, kv_width = H * c.head_width, K * c.head_width
    if c.is_modern:
        kept = 26 * C + 8 * F + 12 * (q_width + kv_width) if half else 24 * C + 16 * (F + q_width + kv_width)
        return kept + 8 * H + 4 * K + 8 + (4 if half else 8) * C * bool(c.dropout)
    if c.architecture == "gpt2":
        kept = 20 * C + 4 * F if half else 32 * C + 8 * F
        # Dropout inside attention is known to no fused kernel of a CPU: weights, mask and masked weights are kept.
        return kept + 16 + ((10 if half else 8) * C + 12 * H * T * on_cpu if c.dropout else 4 * H)
    kept = 36 * C + 10 * F + 2 * H * T if half else 48 * C + 20 * F + 4 * H * T
    return kept + 8 + ((4 * C + 4 * H * T if half else 8 * C + 8 * H * T) if c.dropout else 0)


def working_in_block(c: GPTConfig, half: bool) -> int:
    """Bytes at each position that the last block's backward takes beside what was kept, at most."""
    C, F = c.n_embd, c.mlp_width
    if c.is_modern:
        return 12 * C if half else max(8 * F - 4 * C, 8 * C)
    if c.architecture == "gpt2":
        return max(2 * F, 4 * C) if half else max(4 * F, 4 * C)
    return 12 * C if half else max(7 * F - 4 * C, 8 * C)


def optimizer_bytes(config: RunConfig) -> int:
    """AdamW remembers two numbers of each weight, Muon one of those that it moves."""
    moved = hidden_matrices(config.model) if config.train.optimizer == "muon" else 0
    return bytes_of(2 * count_parameters(config.model).total - moved)


def working_in_optimizer(config: RunConfig) -> int:
    """Bytes that Muon takes to move the matrices of one shape, all of them at a time: their gradients, and what is made
    orthogonal before and after a product. AdamW moves in place."""
    if config.train.optimizer != "muon":
        return 0
    c = config.model
    q_width, kv_width = c.n_head * c.head_width, c.kv_heads * c.head_width
    one = max(2 * c.n_embd * c.mlp_width if c.is_modern else c.n_embd * c.mlp_width, c.n_embd * (q_width + kv_width))
    side = min(c.n_embd, c.mlp_width)
    return bytes_of(c.n_layer * (3 * one + 4 * side * side))
