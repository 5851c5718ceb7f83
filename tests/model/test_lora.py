"""Adapters: nothing changes when they are attached, only they learn, and folding them in changes nothing again."""

import pytest
import torch

from glassgpt.errors import ConfigError
from glassgpt.model.lora import LoRA, LoRALinear, attach_lora, merge_lora

from .conftest import small, some_tokens

LORA = LoRA(rank=3, alpha=7.0, on="all")


def shake_adapters(model):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def test_attached_they_change_nothing_and_merged_they_compute_the_same(architecture):
    model, tokens = small(architecture), some_tokens(2, 7)
    before, names = model(tokens), [name for name, _ in model.named_parameters()]
    attach_lora(model, LORA, seed=1)
    assert torch.equal(model(tokens), before)
    shake_adapters(model)
    adapted = model(tokens)
    assert (adapted - before).abs().max() > 1e-3
    merge_lora(model)
    assert [name for name, _ in model.named_parameters()] == names
    assert (model(tokens) - adapted).abs().max() <= 1e-12 * adapted.abs().max()
    assert not any(isinstance(module, LoRALinear) for module in model.modules())


def test_an_adapter_adds_what_the_paper_says():
    linear = torch.nn.Linear(5, 4).double()
    x = torch.randn(6, 5, dtype=torch.float64)
    adapter = LoRALinear(linear, LoRA(rank=2, alpha=3.0, on="all"), None)
    with torch.no_grad():
        adapter.lora_B += torch.randn(4, 2, dtype=torch.float64)
    expected = linear(x) + 3.0 / 2 * x @ adapter.lora_A.T @ adapter.lora_B.T
    assert torch.allclose(adapter(x), expected)


@pytest.mark.parametrize(("on", "count"), [("attention", {"gpt2": 2, "modern": 4}), ("mlp", {"gpt2": 2, "modern": 3})])
@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_only_the_adapters_of_the_chosen_matrices_learn(architecture, on, count):
    model = small(architecture)
    attach_lora(model, LORA._replace(on=on))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(learning) == 2 * 2 * count[architecture]  # two layers, A and B
    assert all(name.endswith(("lora_A", "lora_B")) and ("attn" in name) == (on == "attention") for name in learning)
    model(some_tokens(1, 5)).sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == learning


def test_the_same_seed_draws_the_same_adapters():
    def drawn(seed):
        model = small()
        attach_lora(model, LORA, seed)
        return model.h[1].attn.c_proj.lora_A

    assert torch.equal(drawn(5), drawn(5)) and not torch.equal(drawn(5), drawn(6))


def test_adapters_wider_than_the_matrices_are_refused():
    with pytest.raises(
        ConfigError, match=r"lora is 19; adapters wider than the matrices \(18\) save nothing, lower it"
    ):
        attach_lora(small(), LORA._replace(rank=19))
