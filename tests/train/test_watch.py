"""Steps that must not be taken, and what is said of them."""

import contextlib
import json
import math
import re
from pathlib import Path

import pytest
import torch

from glassgpt.checkpoint import load_checkpoint, open_run
from glassgpt.config import GPTConfig, TrainConfig
from glassgpt.data import Batch
from glassgpt.errors import GlassError, Stopped
from glassgpt.model import build_model
from glassgpt.train import resume_run, train_run, trainer
from glassgpt.train.loss import chunked_loss
from glassgpt.train.step import StepResult
from glassgpt.train.watch import DEVIATIONS, FEWEST, MOST_IN_A_ROW, WINDOW, Watch, first_not_finite, more_slowly

from .test_run import StopAt, assert_same, final_state


@pytest.fixture
def poisoned(monkeypatch):
    """From now on, the loss of these steps (the first is 1) is multiplied by a number, and so is its gradient."""
    by_step = {}
    real_update = trainer.update

    def update(*some, step, loss, **more):
        factor = by_step.get(step + 1, 1.0)
        return real_update(*some, step=step, loss=lambda model, batch: loss(model, batch) * factor, **more)

    monkeypatch.setattr(trainer, "update", update)
    return by_step


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_left_out(config, recorder, poisoned, poison):
    poisoned[6] = poison
    run = train_run(config.with_values(keep_checkpoints=99, save_every=1, max_steps=6))
    before, after = (load_checkpoint(run.checkpoint_folder(step)) for step in (5, 6))
    assert all(after.weights()[name].equal(tensor) for name, tensor in before.weights().items())
    assert all(after.optimizer_tensors()[name].equal(t) for name, t in before.optimizer_tensors().items())
    run = train_run(config.with_values(keep_checkpoints=99, save_every=1), observers=[recorder])
    before = load_checkpoint(run.checkpoint_folder(5))
    moved = load_checkpoint(run.checkpoint_folder(7)).weights()
    assert not any(moved[name].equal(tensor) for name, tensor in before.weights().items())
    (fault,) = [line for line in run.metrics() if "fault" in line]
    assert fault["step"] == 6 and fault["skipped"] and fault["first_not_finite"] and len(fault["batch"]) == 6
    assert fault["grad_norms_before"] == pytest.approx([line["grad_norm"] for line in run.metrics()
                                                       if "grad_norm" in line and line["step"] < 6])  # fmt: skip
    assert any(re.match(r"step 6: the loss is (nan|inf) .*, so nothing was changed; learning rate 0.003; first not", text)
               for _, text in recorder.of("message"))  # fmt: skip
    json.loads(json.dumps(run.metrics()), parse_constant=pytest.fail)  # neither nan nor infinity is JSON


def test_the_gradients_of_a_step_that_was_left_out_are_gone(config, poisoned):
    poisoned[6] = math.inf
    held = []

    def sample(model, data):
        held.append([p for p in model.parameters() if p.grad is not None])
        return "x"

    train_run(config.with_values(sample_every=1), sample=sample)
    assert len(held) == 14 and not any(held)


def test_going_on_more_slowly_means_every_rate():
    adamw = TrainConfig(max_steps=1, learning_rate=6e-4)
    assert more_slowly(adamw) == "--learning-rate 0.0002"
    muon = TrainConfig(max_steps=1, learning_rate=6e-4, optimizer="muon", matrix_learning_rate=0.03)
    assert more_slowly(muon) == "--learning-rate 0.0002 --matrix-learning-rate 0.01"


def test_stop_stops_at_once_and_resume_goes_on_more_slowly(config, poisoned):
    poisoned[6] = math.nan
    with pytest.raises(
        GlassError, match=r"^step 6: .*so nothing was changed.*--learning-rate 0.001; if it is .*$"
    ) as caught:
        train_run(config.with_values(on_nonfinite="stop"), out="r")
    assert caught.value.exit_code == 1
    assert open_run(Path("r")).steps()[-1] == 5
    poisoned.clear()
    resumed = resume_run(open_run(Path("r")), changes={"learning_rate": 0.001})
    assert resumed.steps()[-1] == 14
    (changed,) = [line for line in resumed.metrics() if "changed" in line]
    assert changed == {"step": 5, "changed": {"learning_rate": [0.003, 0.001]}}


def test_so_many_in_a_row_are_enough(config, poisoned, recorder):
    poisoned.update(dict.fromkeys(range(3, 30), math.nan))
    with pytest.raises(
        GlassError, match=rf"^step {2 + MOST_IN_A_ROW}: .*; {MOST_IN_A_ROW} such steps in a row; more is"
    ):
        train_run(config.with_values(max_steps=30), out="r", observers=[recorder])
    assert len(faults_told(recorder)) == 1
    assert sum("fault" in line for line in open_run(Path("r")).metrics()) == MOST_IN_A_ROW


def test_nothing_is_saved_while_the_loss_is_not_finite(config, poisoned):
    """The update before may be what went wrong, and what was saved before that is what a person goes back to."""
    poisoned.update(dict.fromkeys(range(8, 30), math.nan))
    advice = "--learning-rate 0.001; if it is the same at once, move the newest checkpoint out of r.checkpoints first$"
    with pytest.raises(GlassError, match=advice):
        train_run(config.with_values(max_steps=30, save_every=1, eval_every=30, sample_every=30), out="r")
    assert open_run(Path("r")).steps() == [6, 7]


def faults_told(recorder):
    return [
        text for _, text in recorder.of("message") if re.match(r"step \d+: the loss is nan|\d+ steps in a row", text)
    ]


def test_a_row_is_described_once_and_then_counted(config, poisoned, recorder):
    """In metrics.jsonl stands each of them; also where the run ends or is stopped in the middle of one."""
    poisoned.update(dict.fromkeys((3, 4, 5, 7, 12, 13, 14), math.nan))
    run = train_run(config, observers=[recorder])
    said = [text.partition(" is nan")[0].partition(";")[0] for text in faults_told(recorder)]
    assert said == [
        "step 3: the loss", "3 steps in a row were skipped", "step 7: the loss", "step 12: the loss",
        "3 steps in a row were skipped",
    ]  # fmt: skip
    assert [line["step"] for line in run.metrics() if "fault" in line] == [3, 4, 5, 7, 12, 13, 14]
    recorder.events.clear()
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[recorder, StopAt(13)])
    assert faults_told(recorder)[-1] == "2 steps in a row were skipped; what was wrong with each is in r/metrics.jsonl"
    recorder.events.clear()
    resume_run(open_run(Path("r")), observers=[recorder])
    assert [text[:22] for text in faults_told(recorder)] == ["step 14: the loss is n"]


def test_others_between_them_are_not_in_a_row(config, poisoned):
    poisoned.update({step: math.nan for step in range(3, 30) if step % 10})
    run = train_run(config.with_values(max_steps=29))
    assert sum("fault" in line for line in run.metrics()) == 25


def test_a_run_with_faults_is_stopped_and_resumed_as_the_same_run(config, poisoned):
    poisoned.update({3: math.inf, 8: math.nan, 9: math.nan})
    whole = train_run(config)
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[StopAt(8)])
    assert_same(whole, resume_run(open_run(Path("r"))))


def feed(watch, losses):
    for loss in losses:
        allowed = watch.allows(loss, 1.0)
        watch.add(StepResult(loss, 1.0, applied=allowed))
    return watch


def restless(count, mean=3.0, spread=0.1):
    return [mean + spread * math.sin(7 * i) for i in range(count)]


def test_a_spike_is_six_deviations_and_a_tenth_above_the_mean():
    deviation = torch.tensor(restless(WINDOW), dtype=torch.float64).std(correction=0).item()
    for loss, spike in ((3 + 0.99 * DEVIATIONS * deviation, False), (3 + 1.02 * DEVIATIONS * deviation, True)):
        watch = feed(Watch(TrainConfig(max_steps=1)), restless(WINDOW))
        assert watch.allows(loss, 1.0) and bool(watch.fault) is spike
    calm = feed(Watch(TrainConfig(max_steps=1)), [2.0] * WINDOW)
    assert calm.allows(2.19, 1.0) and not calm.fault
    assert calm.allows(2.21, 1.0) and calm.fault == "the loss leaps to 2.21, after 2 on average"


def test_there_is_no_spike_before_the_mean_is_known_nor_downwards():
    watch = feed(Watch(TrainConfig(max_steps=1, on_spike="stop")), restless(FEWEST - 1))
    assert watch.allows(100.0, 1.0)
    watch.add(StepResult(3.0, 1.0, applied=True))
    assert not watch.allows(100.0, 1.0) and watch.gives_up and watch.allows(0.01, 1.0)


def test_what_has_come_to_stay_is_no_spike():
    watch = feed(Watch(TrainConfig(max_steps=1, on_spike="skip")), restless(WINDOW))
    skipped = 0
    for _ in range(MOST_IN_A_ROW):
        allowed = watch.allows(5.0, 1.0)
        skipped += not allowed
        watch.add(StepResult(5.0, 1.0, applied=allowed))
    assert 1 <= skipped < MOST_IN_A_ROW and not watch.gives_up


@pytest.mark.parametrize(("policy", "applied"), [("report", True), ("skip", False)])
def test_a_spike_in_a_run(config, recorder, poisoned, policy, applied):
    poisoned[40] = 50.0
    run = train_run(config.with_values(max_steps=44, on_spike=policy, eval_every=99), observers=[recorder])
    (fault,) = [line for line in run.metrics() if "fault" in line]
    assert fault["skipped"] is not applied and fault["step"] == 40 and "first_not_finite" not in fault
    done = "and the update was made" if applied else "so nothing was changed"
    assert any(re.match(rf"step 40: the loss leaps to .*, {done}; learning rate", text)
               for _, text in recorder.of("message"))  # fmt: skip


def test_a_spike_can_stop_the_run(config, poisoned):
    poisoned[40] = 50.0
    with pytest.raises(GlassError, match="^step 40: the loss leaps"):
        train_run(config.with_values(max_steps=44, on_spike="stop"))


def test_what_is_remembered_goes_into_the_checkpoint_and_comes_back():
    watch = feed(Watch(TrainConfig(max_steps=1)), [*restless(40), math.nan, math.nan])
    again = Watch(TrainConfig(max_steps=1))
    again.restore(json.loads(json.dumps(watch.state())))
    assert again.state() == watch.state() and again.skipped_in_a_row == 2 and len(again.losses) == 40


SHAPE = {"vocab_size": 19, "context_length": 7, "n_layer": 3, "n_head": 2, "n_embd": 12}


def model_and_batch(architecture="gpt2"):
    model = build_model(GPTConfig(architecture=architecture, **SHAPE), seed=3)
    draw = torch.Generator().manual_seed(8)
    return model, Batch(*(torch.randint(19, (6, 7), generator=draw) for _ in range(2)))


def where(model, batch):
    config = TrainConfig(max_steps=1, batch_size=6, micro_batch_size=2)
    return first_not_finite(model, batch, step=0, config=config, precision="float32")


def test_the_first_that_is_not_finite_is_named():
    model, batch = model_and_batch()
    with torch.no_grad():
        model.h[1].mlp.c_fc.weight[2, 3] = math.inf
    assert where(model, batch) == "the weight h.1.mlp.c_fc.weight"
    model, batch = model_and_batch()
    with torch.no_grad():
        model.h[1].mlp.c_fc.weight.fill_(3e38)
    assert where(model, batch) == "what h.1.mlp.c_fc gives"
    model, batch = model_and_batch()
    with torch.no_grad():
        model.ln_f.weight.fill_(3e38)
        model.wte.weight.mul_(100)
    assert where(model, batch) in ("what ln_f gives", "the logits")
    model, batch = model_and_batch()
    chunked_loss(model, batch).backward()
    assert where(model, batch) == "the length of the gradient alone"
    model.h[0].attn.c_attn.weight.grad[0, 0] = math.nan
    model.h[2].ln_1.weight.grad[0] = math.nan
    assert where(model, batch) == "the gradient of h.2.ln_1.weight"
    assert not any(module._forward_hooks for module in model.modules())


def test_the_first_in_a_modern_block_is_named():
    model, batch = model_and_batch("modern")
    layer = model.model.layers[1]
    with torch.no_grad():
        layer.mlp.up_proj.weight.fill_(3e38)
    assert where(model, batch) == "what model.layers.1.mlp.up_proj gives"


def test_a_diagnosis_disturbs_nothing(config, poisoned, monkeypatch):
    """It computes with dropout on, and draws no number that the run would have drawn."""
    poisoned[6] = math.nan
    looked_at = train_run(config)
    monkeypatch.setattr(trainer, "first_not_finite", lambda *some, **more: "unknown")
    a, b = final_state(looked_at)[0], final_state(train_run(config))[0]
    assert all(b[name].equal(tensor) for name, tensor in a.items())


@pytest.mark.parametrize("settings", [{"learning_rate": 999.0}, {"learning_rate": 999.0, "weight_decay": 999.0}])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_no_update_carries_a_weight_beyond_all_numbers(config, settings, clip):
    """The highest rate and decay that may be set: whatever the loss does, the weights stay numbers."""
    weights = []

    def sample(model, data):
        weights.extend(p.detach().clone() for p in model.parameters())
        return "x"

    asked = config.with_values(warmup_steps=0, grad_clip=clip, max_steps=60, sample_every=1, eval_every=99, **settings)
    with contextlib.suppress(GlassError):
        train_run(asked, sample=sample)
    assert len(weights) > 20 and all(weight.isfinite().all() for weight in weights)
