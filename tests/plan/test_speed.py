import itertools
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from glassgpt.config import build_config
from glassgpt.errors import ConfigError
from glassgpt.machine import threads_restored
from glassgpt.model import ARCHITECTURES, build_model
from glassgpt.model.lora import LoRALinear
from glassgpt.model.size import count_adapters, count_parameters, training_flops
from glassgpt.plan import parts, pieces, speed, timing
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


LORA = {"from_": "gpt2", "lora": 4}


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

    def pass_through(model, rows, length, precision, twice):
        return lambda: rows * length * len(model.blocks) / 1000

    monkeypatch.setattr(parts, "pass_through", pass_through)
    monkeypatch.setattr(parts, "seconds_of", lambda work: work() or 0.0)
    for module in (parts, timing):
        monkeypatch.setattr(module, "timed", lambda work: work() or 0.0)
    monkeypatch.setattr(parts, "seconds_of_step", lambda model, optimizer: 0.0)
    monkeypatch.setattr(parts, "loss_seconds", lambda config, positions, device, precision: (0.0, 0.0, 0.0))


def test_a_step_has_every_block_as_often_as_it_has_tokens(clocked):
    """The same for every split into micro batches and for every depth."""
    for n_layer, micro_batch_size, batch_size in ((3, 4, 8), (3, 8, 8), (3, 8, 24), (7, 2, 8)):
        config = configured(n_layer=n_layer, batch_size=batch_size)
        assert speed_of_parts(config, micro_batch_size, CPU).step == pytest.approx(
            n_layer * batch_size * 48 / 1000, rel=0.01
        )


def test_what_a_micro_batch_pays_for_the_weights_alone_is_paid_for_each(clocked, monkeypatch):
    monkeypatch.setattr(parts, "pass_through", lambda model, *how, twice: lambda: 5.0 * len(model.blocks))
    few, many = (speed_of_parts(configured(), n, CPU).step for n in (8, 2))
    assert few == pytest.approx(5 * 3) and many == pytest.approx(4 * few)


@pytest.fixture
def counted(monkeypatch):
    """A machine on which a million operations of matrices take a second, and nothing else takes long."""

    def seconds(work):
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops() / 1e6 + 1e-4

    for module in (parts, speed, timing):
        monkeypatch.setattr(module, "timed", seconds)
    monkeypatch.setattr(parts, "SLICE", 31)  # of 97 words


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "flags",
    [{}, {"batch_size": 4}, {"tie_embeddings": False}, {"optimizer": "muon", "n_layer": 5}],
)
def test_in_parts_a_step_has_as_many_operations_as_in_one_piece(architecture, flags, counted):
    config = configured(architecture=architecture, replicas=1, **flags)
    whole, in_parts = (way(config, 4, CPU).step for way in (speed_of_whole, speed_of_parts))
    assert in_parts == pytest.approx(whole, rel=0.02)


def test_a_small_model_is_measured_whole_and_a_large_one_in_parts(monkeypatch):
    monkeypatch.setattr(speed, "speed_of_whole", lambda config, size, device: "whole")
    monkeypatch.setattr(speed, "speed_of_parts", lambda config, size, device: "parts")
    assert measure_speed(configured(), 8, CPU) == "whole"
    assert measure_speed(build_config(preset="gpt2"), 1, CPU) == "parts"
    assert measure_speed(configured(gradient_checkpointing=True), 8, CPU) == "parts"


def test_no_model_of_the_whole_size_is_built_for_a_large_one(monkeypatch):
    """GPT-2 XL has 1.6 billion weights; one of its blocks has 31 million, and of its vocabulary a slice is taken."""
    built, real = [], parts.build_model

    def build(config, **how):
        built.append(config)
        return real(replace(config, n_embd=25 * 4), **how)

    monkeypatch.setattr(parts, "build_model", build)
    monkeypatch.setattr(parts, "loss_seconds", lambda config, positions, device, precision: (0.0, 0.0, 0.0))
    speed_of_parts(build_config(preset="gpt2-xl", flags={"precision": "float32"}), 1, CPU)
    assert built and all(config.n_layer == 1 and config.vocab_size == 64 for config in built)


def test_the_threads_are_as_before():
    before = torch.get_num_threads()
    speed_of_whole(configured(), 8, CPU)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("flags", [{"gradient_checkpointing": True}, LORA])
def test_what_changes_the_work_of_a_block_is_measured_with_it(flags, monkeypatch):
    seen, real = [], parts.pass_through

    def watched(model, *how, twice):
        adapted = any(isinstance(module, LoRALinear) for module in model.modules())
        seen.append((adapted, twice, model.embedding.requires_grad))
        return real(model, *how, twice=twice)

    monkeypatch.setattr(parts, "pass_through", watched)
    found = speed_of_parts(configured(**flags), 4, CPU)
    assert seen[0] == ("lora" in flags, "gradient_checkpointing" in flags, True)  # what goes in has a gradient
    assert found.step > 0


def test_replicas_that_training_would_refuse_are_refused_and_others_are_counted(two_threads):
    asked = configured(replicas=2, threads=2)
    assert speed_of_whole(asked, 8, CPU).replicas == 2
    with pytest.raises(ConfigError, match="replicas is 2"):
        speed_of_whole(asked, 3, CPU)


@pytest.mark.parametrize(("replicas", "threads"), [(0, 1), (1, 2), (2, 1)])
def test_the_optimizer_has_the_threads_that_training_leaves_it(replicas, threads, two_threads, monkeypatch):
    """One, beside replicas that have a thread each; whether these were asked for or decided on."""
    seen, real = [], speed.seconds_of_step

    def watched(model, optimizer):
        seen.append(torch.get_num_threads())
        return real(model, optimizer)

    monkeypatch.setattr(speed, "seconds_of_step", watched)
    monkeypatch.setattr(speed.Decided, "ratio_of", lambda self, way: lambda plain, other, run_seconds: 2.0)
    found = speed_of_whole(configured(replicas=replicas, threads=2, max_steps=10**6), 8, CPU)
    assert found.replicas == (replicas or 2) and seen == [threads] and torch.get_num_threads() == 2


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_of_further_micro_batches_are_added(tied, clocked, monkeypatch):
    monkeypatch.setattr(parts, "loss_seconds", lambda config, positions, device, precision: (0.0, 0.0, 1.0))
    config = configured(tie_embeddings=tied)
    one, four = (speed_of_parts(config, n, CPU).parts["adding gradients"] for n in (8, 2))
    count = count_parameters(config.model)
    # All micro batches but the first add their gradients; each, where it is tied, those of the embedding and the output layer.
    assert (one, four) == (tied * count.embedding, 3 * count.total + 4 * tied * count.embedding)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("twice", [False, True])
def test_with_gradient_checkpointing_every_block_runs_forward_once_more(twice, precision, monkeypatch):
    model = pieces.prepared(build_model(configured().model), configured())
    runs, real = [], model.blocks[0].forward
    monkeypatch.setattr(
        model.blocks[0], "forward", lambda *x, **y: runs.append(torch.is_grad_enabled()) or real(*x, **y)
    )
    monkeypatch.setattr(model, "zero_grad", lambda: None)
    parts.pass_through(model, 2, 8, precision, twice)()
    assert runs == [False] * twice + [True]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.blocks.parameters())


def test_no_compiler_is_loaded_to_measure():
    """Gradient checkpointing itself would load it, and a backward that is given its gradient sympy: a second in all."""
    code = (
        "import sys, torch; from glassgpt.config import build_config; from glassgpt.plan.speed import measure_speed\n"
        "for checkpointing in (True, False):\n"
        f"    config = build_config(preset='gpt2', flags={SHAPE} | dict(max_steps=10, gradient_checkpointing=checkpointing))\n"
        "    measure_speed(config, 8, torch.device('cpu'))\n"
        "print({'sympy', 'torch._dynamo'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def weighed(monkeypatch):
    """A machine on which the optimizer takes a second for each number that it moves."""

    def seconds_of_step(model, optimizer):
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    for module in (parts, speed):
        monkeypatch.setattr(module, "seconds_of_step", seconds_of_step)


@pytest.mark.parametrize("flags", [{}, LORA, {"tie_embeddings": False}, {"optimizer": "muon"}, {"n_layer": 7}])
@pytest.mark.parametrize("way", [speed_of_whole, speed_of_parts])
def test_the_optimizer_moves_what_learns_and_each_number_once(way, flags, weighed, monkeypatch):
    monkeypatch.setattr(parts, "HIDDEN", 30_000)  # of two blocks, of three or seven
    config = configured(replicas=1, context_length=999, n_embd=30, **flags)
    learning = count_adapters(config.model, config.finetune) or count_parameters(config.model).total
    assert way(config, 1, CPU).parts["optimizer"] == pytest.approx(learning)


def test_what_was_decided_for_is_how_long_a_piece_takes(monkeypatch):
    """One run of each way: where the other is worth it, its seconds count from then on."""
    seconds = iter([1.0, 2.0, 0.5])
    monkeypatch.setattr(timing, "timed", lambda work: next(seconds))
    decided = timing.Decided(lambda piece: 100 * piece)
    assert decided.seconds is None and decided.run_seconds(2.0) == 200.0 and decided.seconds == 2.0
    assert decided.ratio_of("bfloat16")(list, list, math.exp) == 2.0 and decided.seconds == 1.0
    assert decided.ratio_of("replicas")(list, list, math.exp) == 0.5 and decided.seconds == 1.0  # not worth it
    assert decided.gains == {"bfloat16": 2.0, "replicas": 0.5}
    assert decided.ratio_of("replicas")(list, list, math.exp) == 2.0 and decided.seconds == 0.5


@pytest.mark.parametrize(
    ("of_other", "plain_again", "other_again", "ratio", "chosen"),
    [(0.95, 1.2, 0.8, 1.25, 0.8), (0.95, 0.9, 0.9, 1.0, 0.9), (0.95, 1.0, 1.0, 1 / 0.95, 1.0)],
)
def test_what_would_be_refused_narrowly_is_timed_once_more(
    of_other, plain_again, other_again, ratio, chosen, monkeypatch
):
    """A machine that does something else for a moment only adds time: the best of each counts."""
    seconds = iter([of_other, plain_again, other_again])
    monkeypatch.setattr(timing, "timed", lambda work: next(seconds))
    decided = timing.Decided(lambda piece: piece)
    decided.run_seconds(1.0)
    found = decided.ratio_of("bfloat16")(list, list, math.exp)
    assert found == pytest.approx(ratio) and decided.seconds == chosen
    assert next(seconds, None) is None


def test_pieces_of_milliseconds_are_timed_until_it_is_sure(monkeypatch):
    """Each of the two ways is disturbed now and then; the best of some ten does not show it."""
    seconds = itertools.cycle([0.015, 0.006, 0.006, 0.03])  # one, other, ...
    monkeypatch.setattr(timing, "timed", lambda work: next(seconds))
    decided = timing.Decided(lambda piece: piece)
    decided.run_seconds(0.006)
    assert decided.ratio_of("replicas")(list, list, math.exp) == 1.0 and decided.seconds == 0.006


@pytest.mark.parametrize("way", [speed_of_whole, speed_of_parts])
def test_labels_are_scored_and_no_vocabulary(way, monkeypatch):
    """Of GPT-2 that takes a third of the time."""
    scored, real = [], speed.chunked_loss  # the same in pieces

    def watched(model, batch):
        scored.append(len(model.unembedding))
        return real(model, batch)

    for module in (speed, pieces):
        monkeypatch.setattr(module, "chunked_loss", watched)
    config = configured(micro_batch_size=4)
    for task, outputs in (("labels", 2), ("text", 97)):
        way(config.resolved(task=task), 4, CPU)
        assert scored and {*scored} == {outputs}
        scored.clear()


def test_what_decided_is_told(two_threads):
    """Of bfloat16 and of replicas, where each was compared."""
    auto = configured(precision="auto", max_steps=10**6)
    assert {*measure_speed(auto, 8, CPU).gains} == {"bfloat16", "replicas"}
    assert measure_speed(configured(replicas=1), 8, CPU).gains == {}
    assert {*speed_of_parts(auto, 8, CPU).gains} == {"bfloat16"}


def test_a_piece_that_is_over_soon_makes_way_for_a_larger_one(clocked, monkeypatch):
    """Of a second or so, whatever the machine is; and the block takes as long as the larger one says."""
    done, real = [], parts.pass_through

    def watched(model, rows, length, precision, twice):
        done.append((rows, length))
        seconds = real(model, rows, length, precision, twice)()
        return lambda: seconds / 10_000

    monkeypatch.setattr(parts, "pass_through", watched)
    config = configured(batch_size=64)
    monkeypatch.setattr(parts, "PIECE", 4 * 48 * training_flops(pieces.thinned(config.model, 1)))
    assert speed_of_parts(config, 64, CPU).step == pytest.approx(3 * 64 * 48 / 1e7, rel=0.01)
    small, larger = 4, int(parts.PIECE_SECONDS * 1e7) // 48
    assert done[0] == (small, 48) and (min(64, larger), 48) in done
    monkeypatch.setattr(parts, "SHORT_PIECE_SECONDS", 0.0)
    done.clear()
    speed_of_parts(config, 64, CPU)
    assert max(rows for rows, _ in done) == small


def test_where_the_replicas_are_given_a_piece_of_one_does_not_count(monkeypatch):
    """The precision is still decided on one; a step is then one of as many replicas as were asked for."""
    done = []
    monkeypatch.setattr(speed, "update", lambda *_, replicas, **__: done.append(replicas.count))
    with threads_restored():
        torch.set_num_threads(2)
        given = measure_speed(configured(precision="auto", replicas=2), 4, CPU)
    assert given.replicas == 2 and set(done) == {2}


def test_each_way_is_timed_after_one_whole_piece_of_its_own(two_threads, monkeypatch):
    """A smaller one leaves kernels to load and memory to pay for, of replicas on each of their threads."""
    done, real = [], speed.Replicas.at_once

    def watched(self, work, parts):
        done.append([len(part.tokens) for part in parts])
        return real(self, work, parts)

    monkeypatch.setattr(speed.Replicas, "at_once", watched)

    def timed(work):
        done.append("timed")
        work()
        return 0.1

    for module in (timing, speed):
        monkeypatch.setattr(module, "timed", timed)
    speed.speed_of_whole(configured(precision="bfloat16", max_steps=10**6), 8, CPU)
    assert done[:6] == [[8], "timed", [8], [4, 4], "timed", [4, 4]]
