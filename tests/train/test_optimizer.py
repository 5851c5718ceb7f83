import pytest
import torch

from glassgpt.config import GPTConfig, TrainConfig
from glassgpt.data import Batch
from glassgpt.errors import CheckpointError
from glassgpt.model import ARCHITECTURES, build_model
from glassgpt.train.loss import plain_loss
from glassgpt.train.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from glassgpt.train.step import update

SHAPE = {"vocab_size": 19, "context_length": 7, "n_layer": 2, "n_head": 2, "n_embd": 12}
TOKENS = torch.arange(10).view(2, 5)


def after_two_steps(architecture="gpt2", frozen=(), optimizer="adamw"):
    """A model, its optimizer, and what a checkpoint would hold of it."""
    model = build_model(GPTConfig(architecture=architecture, **SHAPE), seed=1)
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    optimizer = build_optimizer(model, TrainConfig(max_steps=9, optimizer=optimizer))
    for _ in range(2):
        step(model, optimizer)
    return model, optimizer, {name: value.clone() for name, value in optimizer_tensors(model, optimizer).items()}


def step(model, optimizer):
    model(TOKENS).square().mean().backward()
    optimizer.step()
    model.zero_grad()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_matrices_decay_and_norms_and_biases_do_not(architecture):
    model = build_model(GPTConfig(architecture=architecture, **SHAPE), seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, TrainConfig(max_steps=9, learning_rate=0.5, weight_decay=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        expected = before[name] * (1 - 0.5 * 0.1 if parameter.ndim == 2 else 1)
        torch.testing.assert_close(parameter.detach(), expected, msg=name)


def test_muon_moves_the_matrices_in_blocks_and_adamw_the_rest():
    for architecture in ARCHITECTURES:
        _, _, tensors = after_two_steps(architecture, optimizer="muon")
        entries = {key.rpartition("/")[0]: key.rpartition("/")[2] for key in tensors}
        model = build_model(GPTConfig(architecture=architecture, **SHAPE), seed=1)
        hidden = {
            name for name, p in model.named_parameters() if p.ndim == 2 and "emb" not in name and "wte" not in name
        }
        hidden -= {"wpe.weight"}
        assert {name for name, entry in entries.items() if entry == "momentum_buffer"} == hidden != set()
        assert entries.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_checkpoint_that_lacks_any_entry_is_refused_and_one_that_lacks_none_is_not(architecture, optimizer):
    model, _, tensors = after_two_steps(architecture, optimizer=optimizer)
    assert len(tensors) == 3 * len([*model.parameters()]) or optimizer == "muon"
    for lost in tensors:
        fresh = build_optimizer(model, TrainConfig(max_steps=9, optimizer=optimizer))
        rest = {key: value for key, value in tensors.items() if key != lost}
        with pytest.raises(CheckpointError) as caught:
            load_optimizer_tensors(model, fresh, rest, "step-2")
        assert str(caught.value) == f"step-2 has no entry {lost}; the checkpoint is not whole, use another one"
        assert not any(value.any() for value in optimizer_tensors(model, fresh).values())  # nothing was put back
    load_optimizer_tensors(model, fresh, tensors, "step-2")
    step(model, fresh)


def test_the_memory_before_the_first_step_is_all_there_and_changes_nothing():
    """So that the checkpoint of step 0 is as large as every later one."""
    model, optimizer, _ = after_two_steps()
    fresh = build_optimizer(model, TrainConfig(max_steps=9))
    empty = {key: value.clone() for key, value in optimizer_tensors(model, fresh).items()}
    assert empty.keys() == optimizer_tensors(model, optimizer).keys()
    assert not any(value.any() for value in empty.values())
    load_optimizer_tensors(model, optimizer, empty, "step-0")
    lazy = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    for p in model.parameters():
        p.grad = torch.full_like(p, 0.5)
    before = [p.detach().clone() for p in model.parameters()]
    lazy.step()
    expected = [p.detach().clone() for p in model.parameters()]
    for p, old in zip(model.parameters(), before, strict=True):
        p.data.copy_(old)
    optimizer.beta2 = 0.999
    for group in optimizer.groups:
        group.learning_rate, group.weight_decay = 1e-3, 0.0
    optimizer.step()
    assert all(p.equal(other) for p, other in zip(model.parameters(), expected, strict=True))


def test_each_group_follows_the_schedule_at_its_own_rate():
    model = build_model(GPTConfig(**SHAPE), seed=1)
    config = TrainConfig(
        max_steps=9, batch_size=2, micro_batch_size=2, optimizer="muon", learning_rate=0.01, matrix_learning_rate=0.04
    )
    optimizer = build_optimizer(model, config)
    batch = Batch(TOKENS, TOKENS)
    update(model, optimizer, batch, step=0, learning_rate=0.005, config=config, precision="float32", loss=plain_loss)
    rates = {id(p): group.learning_rate for group in optimizer.groups for p in group.weights}
    assert {name: rates[id(p)] for name, p in model.named_parameters()} == {
        name: 0.02 if name.startswith("h.") and p.ndim == 2 else 0.005 for name, p in model.named_parameters()
    }


def test_frozen_weights_have_no_entries_and_need_none():
    model, _, tensors = after_two_steps(frozen=["wte.weight", "h.1.ln_1.bias"])
    assert not any(key.startswith(("wte.weight/", "h.1.ln_1.bias/")) for key in tensors)
    fresh = build_optimizer(model, TrainConfig(max_steps=9))
    load_optimizer_tensors(model, fresh, tensors, "step-2")
    assert optimizer_tensors(model, fresh).keys() == tensors.keys()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("wte.weight/step", torch.ones(8), r"wte.weight/step has shape \(8,\)"),
        ("wte.weight/exp_avg", torch.ones(()), r"wte.weight/exp_avg has shape \(\), this model asks for \(19, 12\)"),
        ("wte.weight/exp_avg", torch.ones(19, 12).long(), "wte.weight/exp_avg is of type int64"),
        ("wte.weight/exp_avg_sq", torch.ones(19, 12).to(torch.float8_e4m3fn), "exp_avg_sq is of type float8_e4m3fn"),
    ],
)
def test_an_entry_of_another_shape_or_type_is_refused(key, value, message):
    model, _, tensors = after_two_steps()
    with pytest.raises(CheckpointError, match=message):
        load_optimizer_tensors(
            model, build_optimizer(model, TrainConfig(max_steps=9)), tensors | {key: value}, "step-2"
        )


def test_memory_in_another_precision_is_read_in_that_of_the_weights():
    model, _, tensors = after_two_steps()
    fresh = build_optimizer(model, TrainConfig(max_steps=9))
    load_optimizer_tensors(model, fresh, {key: value.double() for key, value in tensors.items()}, "step-2")
    step(model, fresh)
