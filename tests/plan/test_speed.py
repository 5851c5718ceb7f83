from dataclasses import replace

import pytest
import torch

from glassgpt.config import build_config
from glassgpt.errors import ConfigError
from glassgpt.machine import threads_restored
from glassgpt.model import ARCHITECTURES
from glassgpt.model.lora import LoRALinear
from glassgpt.model.size import count_parameters
from glassgpt.plan import speed
from glassgpt.plan.speed import measure_speed, speed_of_parts, speed_of_whole

CPU = torch.device("cpu")
SHAPE = {
    "n_layer": 3,
    "n_head": 2,
    "n_embd": 32,
    "context_length": 48,
    "vocab_size": 97,
    "batch_size": 8,
    "precision": "float32",
}


def configured(**flags):
    return build_config(preset="gpt2", flags=SHAPE | {"max_steps": 10, "warmup_steps": 0} | flags)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_measured_both_ways(architecture):
    config = configured(architecture=architecture, micro_batch_size=4)
    for way in (speed_of_whole, speed_of_parts):
        found = way(config, 4, CPU)
        assert found.step == pytest.approx(sum(found.parts.values())) and found.step > 0
        assert all(seconds >= 0 for seconds in found.parts.values())


@pytest.fixture
def two_threads():
    with threads_restored():
        torch.set_num_threads(2)
        yield


@pytest.fixture
def clocked(monkeypatch):
    """A machine on which every piece takes a second for each 1,000 tokens of each of its blocks, and nothing else does."""

    def pass_through(model, rows, length, precision):
        return lambda: rows * length * len(model.blocks) / 1000

    monkeypatch.setattr(speed, "pass_through", pass_through)
    monkeypatch.setattr(speed, "seconds_of", lambda work: work() or 0.0)
    monkeypatch.setattr(speed, "timed", lambda work: work() or 0.0)
    monkeypatch.setattr(speed, "seconds_of_step", lambda model, optimizer: 0.0)
    monkeypatch.setattr(speed, "loss_seconds", lambda config, positions, device, precision: (0.0, 0.0, 0.0))


def test_a_step_has_every_block_as_often_as_it_has_tokens(clocked):
    """The same for every split into micro batches and for every depth."""
    for n_layer, micro_batch_size, batch_size in ((3, 4, 8), (3, 8, 8), (3, 8, 24), (7, 2, 8)):
        config = configured(n_layer=n_layer, batch_size=batch_size)
        assert speed_of_parts(config, micro_batch_size, CPU).step == pytest.approx(
            n_layer * batch_size * 48 / 1000, rel=0.01
        )


def test_what_a_micro_batch_pays_for_the_weights_alone_is_paid_for_each(clocked, monkeypatch):
    monkeypatch.setattr(speed, "pass_through", lambda model, rows, length, precision: lambda: 5.0 * len(model.blocks))
    few, many = (speed_of_parts(configured(), n, CPU).step for n in (8, 2))
    assert few == pytest.approx(5 * 3) and many == pytest.approx(4 * few)


def test_a_small_model_is_measured_whole_and_a_large_one_in_parts(monkeypatch):
    monkeypatch.setattr(speed, "speed_of_whole", lambda config, size, device: "whole")
    monkeypatch.setattr(speed, "speed_of_parts", lambda config, size, device: "parts")
    assert measure_speed(configured(), 8, CPU) == "whole"
    assert measure_speed(build_config(preset="gpt2"), 1, CPU) == "parts"


def test_no_model_of_the_whole_size_is_built_for_a_large_one(monkeypatch):
    """GPT-2 XL has 1.6 billion weights; one of its blocks has 31 million, and of its vocabulary a slice is taken."""
    built, real = [], speed.build_model

    def build(config, **how):
        built.append(config)
        return real(replace(config, n_embd=25 * 4), **how)

    monkeypatch.setattr(speed, "build_model", build)
    monkeypatch.setattr(speed, "loss_seconds", lambda config, positions, device, precision: (0.0, 0.0, 0.0))
    speed_of_parts(build_config(preset="gpt2-xl", flags={"precision": "float32"}), 1, CPU)
    assert built and all(config.n_layer == 1 and config.vocab_size == 64 for config in built)


def test_the_threads_are_as_before():
    before = torch.get_num_threads()
    speed_of_whole(configured(), 8, CPU)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("flags", [{"gradient_checkpointing": True}, {"from_": "gpt2", "lora": 4}])
def test_what_changes_the_work_of_a_block_is_measured_with_it(flags, monkeypatch):
    seen, real = [], speed.pass_through

    def watched(model, *how):
        adapted = any(isinstance(module, LoRALinear) for module in model.modules())
        again = any("checkpoint" in repr(block.forward) for block in model.blocks)
        seen.append((adapted, again, model.embedding.requires_grad))
        return real(model, *how)

    monkeypatch.setattr(speed, "pass_through", watched)
    found = speed_of_parts(configured(**flags), 4, CPU)
    assert seen[0] == ("lora" in flags, "gradient_checkpointing" in flags, True)  # what goes in has a gradient
    assert found.step > 0


def test_replicas_that_training_would_refuse_are_refused_and_others_are_counted(two_threads):
    asked = configured(replicas=2, threads=2)
    assert speed_of_whole(asked, 8, CPU).replicas == 2
    with pytest.raises(ConfigError, match="replicas is 2"):
        speed_of_whole(asked, 3, CPU)


def test_gradients_of_further_micro_batches_are_added(clocked, monkeypatch):
    monkeypatch.setattr(speed, "loss_seconds", lambda config, positions, device, precision: (0.0, 0.0, 1.0))
    one, four = (speed_of_parts(configured(), n, CPU).parts["adding gradients"] for n in (8, 2))
    assert (one, four) == (0, 3 * count_parameters(configured().model).total)
