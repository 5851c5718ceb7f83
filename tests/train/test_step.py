import copy
import math

import pytest
import torch

from glassgpt.config import GPTConfig, TrainConfig
from glassgpt.data import IGNORE_INDEX, Batch
from glassgpt.errors import GlassError
from glassgpt.model import build_model
from glassgpt.train.loss import chunked_loss, count_targets
from glassgpt.train.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from glassgpt.train.step import seed_micro_step, update


def small(dropout=0.0, architecture="gpt2"):
    shape = GPTConfig(
        architecture=architecture, vocab_size=19, context_length=7, n_layer=2, n_head=2, n_embd=12, dropout=dropout
    )
    return build_model(shape, seed=3).double()


def batch_of(rows=6, ignored=True):
    draw = torch.Generator().manual_seed(8)
    tokens = torch.randint(19, (rows, 7), generator=draw)
    targets = torch.randint(19, (rows, 7), generator=draw)
    if ignored:  # unevenly, so that a mean of means would be another number
        targets[0, 1:] = IGNORE_INDEX
        targets[3, 5:] = IGNORE_INDEX
    return Batch(tokens, targets)


def one_update(model, batch, micro, **settings):
    config = TrainConfig(max_steps=1, batch_size=len(batch.tokens), micro_batch_size=micro, **settings)
    optimizer = build_optimizer(model, config)
    result = update(
        model, optimizer, batch, step=0, learning_rate=0.01, config=config, precision="float32", loss=chunked_loss
    )
    return result, optimizer


@pytest.mark.parametrize("micro", [1, 2, 3])
def test_accumulation_is_the_whole_batch(micro):
    whole, parts = small(), small()
    a, _ = one_update(whole, batch_of(), 6)
    b, _ = one_update(parts, batch_of(), micro)
    # The loss is taken in float32 whatever the weights are, so float32 rounding is what may differ.
    assert a.train_loss == pytest.approx(b.train_loss, rel=1e-6)
    assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-6)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_gradients_neither_come_into_an_update_nor_outlive_it():
    fresh, used = small(), small()
    chunked_loss(used, batch_of(4)).backward()
    for model in (fresh, used):
        one_update(model, batch_of(), 2)
    assert all(p.equal(q) and q.grad is None for p, q in zip(fresh.parameters(), used.parameters(), strict=True))


def test_the_loss_is_the_mean_over_scored_targets_only():
    model, batch = small(), batch_of()
    result, _ = one_update(copy.deepcopy(model), batch, 2)
    log_p = model(batch.tokens).log_softmax(-1)
    scored = batch.targets != IGNORE_INDEX
    expected = -log_p[scored].gather(-1, batch.targets[scored][:, None]).mean()
    assert count_targets(batch) == int(scored.sum()) < batch.targets.numel()
    assert result.train_loss == pytest.approx(expected.item(), rel=1e-6)


def test_a_fresh_model_is_as_surprised_as_a_coin_of_its_vocabulary():
    result, _ = one_update(small(), batch_of(ignored=False), 6)
    assert result.train_loss == pytest.approx(math.log(19), abs=0.1)


def test_clipping_shortens_the_gradient_and_reports_its_length_before():
    free, _ = one_update(small(), batch_of(), 6, grad_clip=0.0)
    clipped, _ = one_update(small(), batch_of(), 6, grad_clip=free.grad_norm / 10)
    assert clipped.grad_norm == pytest.approx(free.grad_norm)
    kept = {}
    for clip in (0.0, free.grad_norm / 10):
        _, optimizer = one_update(small(), batch_of(), 6, grad_clip=clip, beta1=0.5)
        kept[clip] = sum(s["exp_avg"].square().sum() for s in optimizer.state.values()).sqrt().item()
    first, second = kept.values()
    assert second == pytest.approx(first / 10, rel=1e-3)


def test_only_matrices_decay():
    model = small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = TrainConfig(max_steps=1, weight_decay=0.5)
    optimizer = build_optimizer(model, config)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        factor = 1 - 0.5 * config.learning_rate if p.ndim >= 2 else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_never_reaches_the_weights(poison):
    model = small()
    with torch.no_grad():
        model.wte.weight[4, 2] = poison
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    batch = batch_of()
    batch.tokens[2, 3] = 4
    result, optimizer = one_update(model, batch, 2)
    assert not result.applied and not math.isfinite(result.train_loss)
    assert not any(value.any() for value in optimizer_tensors(model, optimizer).values())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name], rtol=0, atol=0, equal_nan=True)


def test_dropout_is_keyed_by_place_and_not_by_history():
    def mask(*place):
        seed_micro_step(*place, torch.device("cpu"))
        return torch.rand(5)

    here = mask(7, 3, 1, 0)
    mask(7, 4, 0, 0)
    assert torch.equal(mask(7, 3, 1, 0), here)
    others = [(8, 3, 1, 0), (7, 4, 1, 0), (7, 3, 2, 0), (7, 3, 1, 1), (7, 1, 3, 0)]
    assert not any(torch.equal(mask(*other), here) for other in others)


def test_optimizer_state_goes_out_and_comes_back():
    model = small()
    _, optimizer = one_update(model, batch_of(), 6)
    tensors = {name: value.clone() for name, value in optimizer_tensors(model, optimizer).items()}
    assert "h.0.attn.c_attn.weight/exp_avg" in tensors
    config = TrainConfig(max_steps=1)
    fresh = build_optimizer(model, config)
    load_optimizer_tensors(model, fresh, tensors, "file")
    assert optimizer_tensors(model, fresh).keys() == tensors.keys()
    for name, value in optimizer_tensors(model, fresh).items():
        assert torch.equal(value, tensors[name])


def test_optimizer_state_of_another_model_is_refused():
    model = small()
    _, optimizer = one_update(model, batch_of(), 6)
    tensors = optimizer_tensors(model, optimizer)
    with pytest.raises(GlassError, match="file has an entry h.9/exp_avg, which this model has no place for"):
        load_optimizer_tensors(model, optimizer, tensors | {"h.9/exp_avg": torch.zeros(2)}, "file")
    some = {key: value for key, value in tensors.items() if not key.startswith("h.1.ln_2.bias/")}
    with pytest.raises(GlassError, match=r"file has no entry h\.1\.ln_2\.bias/step; the checkpoint is not whole"):
        load_optimizer_tensors(model, optimizer, some, "file")
    with pytest.raises(GlassError, match=r"wte.weight/exp_avg has shape \(3, 5\), this model asks for \(19, 12\)"):
        load_optimizer_tensors(model, optimizer, tensors | {"wte.weight/exp_avg": torch.zeros(3, 5)}, "file")
