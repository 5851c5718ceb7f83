"""The chunked loss against its plain twin."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from glassgpt.config import GPTConfig
from glassgpt.data import IGNORE_INDEX, Batch
from glassgpt.model import ARCHITECTURES, build_model
from glassgpt.train import loss as module
from glassgpt.train.loss import chunked_loss, plain_loss


def batch_of(ignored=True):
    draw = torch.Generator().manual_seed(4)
    tokens, targets = (torch.randint(61, (7, 9), generator=draw) for _ in range(2))
    if ignored:
        targets[2] = IGNORE_INDEX
        targets[4, 3:] = IGNORE_INDEX
    return Batch(tokens, targets)


def value_and_gradients(loss, model, batch, scale=7.0):
    model.zero_grad()
    value = loss(model, batch)
    (value / scale).backward()
    return value.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


# Rows in a chunk: one, some that do not divide 63, all, more than all; words at a time: likewise of 61.
@pytest.fixture(params=[(1, 100), (5, 100), (63, 8), (1000, 61)])
def chunks(request, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_LOGITS", 1)
    monkeypatch.setattr(module, "CHUNK_ROWS", request.param[0])
    monkeypatch.setattr(module, "CHUNK_WORDS", request.param[1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("ignored", [True, False])
def test_chunked_is_plain_in_value_and_every_gradient(chunks, architecture, tied, ignored):
    shape = GPTConfig(
        architecture=architecture, vocab_size=61, context_length=9, n_layer=2, n_head=2, n_embd=16, tie_embeddings=tied
    )
    model = build_model(shape, seed=1).double()
    plain, plain_gradients = value_and_gradients(plain_loss, model, batch_of(ignored))
    chunked, gradients = value_and_gradients(chunked_loss, model, batch_of(ignored))
    assert chunked.dtype == torch.float64
    torch.testing.assert_close(chunked, plain, rtol=1e-13, atol=0)
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("words", [8, 100])
def test_chunked_is_plain_in_bfloat16_to_its_rounding(monkeypatch, words):
    monkeypatch.setattr(module, "CHUNK_WORDS", words)
    shape = GPTConfig(architecture="modern", vocab_size=61, context_length=9, n_layer=2, n_head=2, n_embd=16)
    model = build_model(shape, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        plain, plain_gradients = value_and_gradients(plain_loss, model, batch_of())
        chunked, gradients = value_and_gradients(chunked_loss, model, batch_of())
    torch.testing.assert_close(chunked, plain, rtol=1e-3, atol=0)
    for name, gradient in plain_gradients.items():
        assert (gradients[name] - gradient).norm() <= 0.03 * gradient.norm(), name


def test_large_logits_do_not_overflow():
    model = build_model(GPTConfig(vocab_size=61, context_length=9, n_layer=1, n_head=2, n_embd=16), seed=1)
    with torch.no_grad():
        model.ln_f.weight.mul_(1e4)
    value, gradients = value_and_gradients(chunked_loss, model, batch_of())
    plain, _ = value_and_gradients(plain_loss, model, batch_of())
    torch.testing.assert_close(value, plain, rtol=1e-5, atol=0)
    assert value > 1e3 and all(gradient.isfinite().all() for gradient in gradients.values())


def test_all_ignored_is_zero():
    model = build_model(GPTConfig(vocab_size=61, context_length=9, n_layer=1, n_head=2, n_embd=16), seed=1)
    batch = batch_of()
    batch.targets.fill_(IGNORE_INDEX)
    value, gradients = value_and_gradients(chunked_loss, model, batch)
    assert value == 0 and all(not gradient.any() for gradient in gradients.values())


def operations(loss, model, batch):
    """What the matrix products of one loss cost, its gradients included where they are wanted."""
    with FlopCounterMode(display=False) as counter:
        value = loss(model, batch)
        if value.requires_grad:
            value.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("frozen", [[], ["lm_head"], ["wte", "wpe", "h", "ln_f"]])
def test_only_gradients_that_are_wanted_are_computed(frozen):
    shape = GPTConfig(vocab_size=61, context_length=9, n_layer=1, n_head=2, n_embd=16, tie_embeddings=False)
    model = build_model(shape, seed=1)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    assert operations(chunked_loss, model, batch_of()) == operations(plain_loss, model, batch_of())
    for no_gradients in (torch.no_grad(), torch.inference_mode()):
        with no_gradients:
            assert operations(chunked_loss, model, batch_of()) == operations(plain_loss, model, batch_of())
    wanted = {name for name, _ in model.named_parameters() if not name.startswith(tuple(frozen))}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == wanted
