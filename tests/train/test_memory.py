"""The formula of a step's memory against its tensors, counted one by one as they come and go."""

import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glassgpt.config import build_config
from glassgpt.data import Batches
from glassgpt.model import ARCHITECTURES, build_model
from glassgpt.model.lora import attach_lora, lora_of
from glassgpt.model.size import count_parameters, generation_bytes, hidden_matrices
from glassgpt.train import memory
from glassgpt.train.loss import CHUNK_ROWS, chunked_loss, plain_loss
from glassgpt.train.memory import process_memory, training_memory
from glassgpt.train.optimizer import build_optimizer, optimizer_tensors
from glassgpt.train.recompute import recompute_blocks
from glassgpt.train.step import update

ROWS = 6
SHAPE = {"vocab_size": 301, "context_length": 64, "n_layer": 4, "n_head": 2, "n_embd": 48, "n_inner": 112}


class Ledger(TorchDispatchMode):
    """Bytes of all storages that are there, and the most there ever were."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = {}

    def add(self, tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.known[storage._cdata] = size = storage.nbytes()
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.forget, storage._cdata)

    def forget(self, key):
        self.now -= self.known.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(given):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return given


def configured(**flags):
    return build_config(preset="gpt2", flags=SHAPE | {"max_steps": 2, "warmup_steps": 0, "batch_size": ROWS} | flags)


def most_of_a_step(config, loss=chunked_loss):
    """Bytes at the worst moment of the second update, weights and optimizer included."""
    c, ledger = config.model, Ledger()
    precision = config.machine.precision if config.machine.precision != "auto" else "float32"
    with ledger:
        model = build_model(c, seed=1).train()
        for p in model.parameters():
            ledger.add(p.data)
        if config.train.gradient_checkpointing:
            recompute_blocks(model)
        optimizer = build_optimizer(model, config.train, precision)
        text = (np.arange(50 * c.context_length * ROWS) * 7 % c.vocab_size).astype(np.uint16)
        batches = Batches(text, c.context_length, seed=1)
        for step in range(2):
            ledger.most = ledger.now
            update(
                model, optimizer, batches.batch(step, config.train.batch_size),
                step=step, learning_rate=1e-4, config=config.train, precision=precision, loss=loss,
            )  # fmt: skip
    return ledger.most


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_takes_what_the_formula_says(architecture, dropout, precision):
    config = configured(architecture=architecture, dropout=dropout, precision=precision, micro_batch_size=ROWS)
    assert training_memory(config, ROWS).tensors == pytest.approx(most_of_a_step(config), rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_further_block_takes_what_the_formula_says(architecture, precision):
    """The difference of two depths: whatever is around the blocks falls out."""
    shape = {"architecture": architecture, "precision": precision, "micro_batch_size": ROWS}
    if architecture == "ngram":
        shape["n_gram_rows"] = 101  # else their gradients are the most that there ever is
    few, many = (configured(n_layer=n, **shape) for n in (9, 14))
    said = training_memory(many, ROWS).tensors - training_memory(few, ROWS).tensors
    assert said == pytest.approx(most_of_a_step(many) - most_of_a_step(few), rel=0.02)


@pytest.mark.parametrize(
    ("flags", "rel"),
    [
        ({"micro_batch_size": 2}, 0.05),  # the gradients of earlier micro batches are there
        ({"micro_batch_size": 2, "architecture": "ngram"}, 0.05),
        ({"micro_batch_size": ROWS, "tie_embeddings": False}, 0.05),
        ({"micro_batch_size": ROWS, "bias": False}, 0.05),
        ({"micro_batch_size": ROWS, "architecture": "modern", "n_kv_head": 1, "head_dim": 40}, 0.05),
        ({"micro_batch_size": ROWS, "vocab_size": 20_011}, 0.05),
        ({"micro_batch_size": ROWS, "vocab_size": 20_011, "precision": "bfloat16"}, 0.05),
        ({"micro_batch_size": ROWS, "vocab_size": 20_011, "precision": "bfloat16", "context_length": 256}, 0.05),
        ({"micro_batch_size": ROWS, "optimizer": "muon"}, 0.05),
        ({"micro_batch_size": ROWS, "gradient_checkpointing": True, "n_layer": 12}, 0.15),
        ({"micro_batch_size": ROWS, "gradient_checkpointing": True, "n_layer": 12, "precision": "bfloat16"}, 0.15),
    ],
)
def test_whatever_else_a_step_depends_on(flags, rel):
    config = configured(**flags)
    assert training_memory(config, flags["micro_batch_size"]).tensors == pytest.approx(most_of_a_step(config), rel=rel)


def test_the_plain_loss_holds_the_logits_of_all_positions():
    config = configured(micro_batch_size=ROWS, vocab_size=5003, context_length=256)
    whole = training_memory(config, ROWS, whole_logits=True)
    assert whole.tensors == pytest.approx(most_of_a_step(config, plain_loss), rel=0.1)
    assert whole.most_logits >= 3 * 4 * ROWS * 256 * 5003 > 3 * training_memory(config, ROWS).most_logits
    assert training_memory(config, ROWS).most_logits > 4 * CHUNK_ROWS * 5003


def test_on_a_gpu_dropout_keeps_no_weights_of_attention():
    """There a fused kernel knows it."""
    sizes = [
        training_memory(configured(dropout=p), ROWS, on_cpu=on_cpu).step for p in (0.1, 0.0) for on_cpu in (True, False)
    ]
    per_head = 12 * 4 * configured().model.n_head * configured().model.context_length
    assert sizes[0] - sizes[1] >= ROWS * configured().model.context_length * per_head and sizes[2] == sizes[3]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_writing_takes_what_the_formula_says(architecture):
    config = configured(architecture=architecture, context_length=256).model
    model, ledger = build_model(config, seed=1).eval(), Ledger()
    tokens = torch.randint(config.vocab_size, (1, 256))
    with ledger, torch.inference_mode():
        model.unembed(model.hidden(tokens, model.new_cache(1))[:, -1])
    sampled = 6 * 8 * config.vocab_size
    assert 0.75 < ledger.most / (generation_bytes(config, 1) - sampled) < 1.05


def test_every_further_replica_takes_the_same_and_as_much_heap_as_one():
    """Gradients, too, but not those of the micro batch before, which the first one alone keeps."""
    config = configured(micro_batch_size=3, batch_size=24, n_embd=96)
    one, two, three, four = (
        process_memory(config, 3, replicas=n, before=0, with_copy=False)._replace(trial=0).total for n in (1, 2, 3, 4)
    )
    assert four - three == three - two == two - one > 0
    twin = training_memory(config, 3, accumulates=False)
    assert two - one >= twin.step + twin.fragmentation + twin.gradients
    weights = 4 * count_parameters(config.model).total  # as large are the gradients of the micro batch before
    assert process_memory(config, 3, before=0).gradients == weights
    assert process_memory(config, 3, replicas=2, before=0).gradients == weights + twin.gradients < 2 * weights


def test_a_validation_takes_what_steps_have_not_left():
    """8,192 tokens at once; of a step as large none of its own."""
    small, large = (
        process_memory(
            configured(micro_batch_size=n, batch_size=n, context_length=64, precision="float32"), n, before=0
        )
        for n in (1, 512)
    )
    config = configured(context_length=64)
    alone = (1 + memory.FRAGMENTATION_VALIDATED) * memory.evaluation_bytes(config)
    assert 0.9 * alone < small.validation <= alone and large.validation == 0


def test_two_pieces_over_half_an_arena_do_not_share_it():
    """A validation in a thread of its own, 8,192 positions at once: a piece of 32 MiB takes 64."""
    lost = [
        memory.lost_in_arena(configured(context_length=64, n_inner=width)) for width in (100, 1000, 1024, 1400, 5000)
    ]
    assert lost[0] == lost[1] == memory.FRAGMENTATION_VALIDATED
    assert (
        0.9 < lost[2] <= 1 and lost[3] == pytest.approx(64 / (1400 * 8192 * 4 / 2**20) - 1, abs=0.01) and lost[4] == 1
    )


def test_a_large_gradient_finds_no_place_among_small_pieces():
    """Of an embedding larger than all that a forward keeps, such as that of n-grams."""
    config = configured(architecture="ngram", n_gram_rows=40_000, batch_size=1, precision="float32")
    found = training_memory(config, 1)
    assert found.step + found.fragmentation + found.gradients >= found.heap + found.weights
    usual = training_memory(configured(batch_size=1, precision="float32"), 1)
    assert usual.fragmentation == pytest.approx(usual.heap - usual.step, abs=2)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("bias", [True, False])
def test_what_an_optimizer_remembers(architecture, optimizer, bias):
    without = {} if bias or architecture in ("modern", "ngram") else {"bias": False}
    config = configured(architecture=architecture, optimizer=optimizer, **without)
    model = build_model(config.model, seed=1)
    tensors = optimizer_tensors(model, build_optimizer(model, config.train))
    held = sum(tensor.nbytes for name, tensor in tensors.items() if not name.endswith("/step"))
    assert training_memory(config, 1).optimizer == held
    assert hidden_matrices(config.model) == sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("on", ["attention", "mlp", "all"])
def test_of_adapters_alone_there_are_gradients_and_moments(architecture, on):
    config = configured(architecture=architecture, from_="gpt2", lora=4, lora_on=on, batch_size=2 * ROWS)
    model = build_model(config.model)
    attach_lora(model, lora_of(config.finetune))
    learning = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    found = training_memory(config, ROWS)
    assert (found.gradients, found.optimizer) == (learning, 2 * learning) and found.activations > 0
    assert found.weights == sum(p.nbytes for p in model.parameters())


def test_a_process_takes_its_tensors_what_is_lost_between_them_and_a_copy():
    config = configured(
        micro_batch_size=ROWS, batch_size=60, vocab_size=20_011, context_length=256, precision="float32"
    )
    found, before = training_memory(config, ROWS), 1 << 28
    parts = process_memory(config, ROWS, before=before, with_copy=False)
    alone = parts.total
    assert alone - before - memory.LOADED - parts.validation == found.tensors + found.fragmentation == found.growth
    assert found.fragmentation == pytest.approx(
        memory.FRAGMENTATION["float32"] / max(3, config.model.n_layer) * found.step, rel=1e-6
    )
    assert process_memory(config, ROWS, before=before).total - alone == found.weights + found.optimizer
    two = process_memory(config, ROWS // 2, replicas=2, before=before, with_copy=False).total
    assert alone < two < 2 * alone


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_trial_of_both_precisions_counts_where_it_takes_more_than_training(replicas):
    """It comes before the moments and the copy, and has no more rows than that."""
    short = configured(context_length=256, vocab_size=97, n_embd=512, n_head=8)
    half = short.resolved(precision="bfloat16")
    with_trial, without = (
        process_memory(half, 16 // replicas, replicas=replicas, before=0, with_trial=tried).total
        for tried in (True, False)
    )
    step = training_memory(short.resolved(precision="float32"), 16).step
    assert without < with_trial < without + step and with_trial > 1.2 * step
    larger = [process_memory(half, 160, before=0, with_trial=tried).total for tried in (True, False)]
    assert larger[0] == larger[1]  # training's own 160 rows take more than the trial's 16


def test_a_part_has_its_own_worst_moment():
    """Of a model that is nearly all embedding, the step takes the most when gradients are there and activations are gone."""
    config = configured(architecture="ngram", micro_batch_size=ROWS, n_gram_rows=16_381)
    found = training_memory(config, ROWS)
    assert found.gradients == found.weights and found.activations < found.most_activations
    assert found.most_activations > ROWS * 64 * 4 * 48 * 20  # of four blocks
