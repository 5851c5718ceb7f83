"""Micro batches side by side: the bits of one after the other, in less time."""

import copy
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch

from glassgpt.checkpoint import load_checkpoint, open_run
from glassgpt.config import GPTConfig, TrainConfig, build_config
from glassgpt.data import IGNORE_INDEX, Batch, load_data, prepare
from glassgpt.errors import ConfigError, Stopped
from glassgpt.model import build_model
from glassgpt.train import resume_run, train_run
from glassgpt.train.evaluate import evaluate
from glassgpt.train.loss import chunked_loss
from glassgpt.train.optimizer import build_optimizer
from glassgpt.train.replicas import Replicas
from glassgpt.train.step import update

from .test_run import StopAt, assert_same


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def small(**shape):
    shape = {"vocab_size": 19, "context_length": 7, "n_layer": 2, "n_head": 2, "n_embd": 12} | shape
    return build_model(GPTConfig(**shape), seed=3)


def batch_of(rows):
    draw = torch.Generator().manual_seed(8)
    tokens, targets = torch.randint(19, (2, rows, 7), generator=draw)
    targets[0, 2:] = IGNORE_INDEX
    return Batch(tokens, targets)


def steps(model, replicas, micro, optimizer, rows=12, precision="float32"):
    train = TrainConfig(max_steps=9, batch_size=rows, micro_batch_size=micro, optimizer=optimizer)
    mover = build_optimizer(model, train)
    return [
        update(
            model, mover, batch_of(rows), step=step, learning_rate=0.01, config=train, precision=precision, loss=chunked_loss,
            replicas=replicas,
        )
        for step in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    "shape",
    [
        {"architecture": "gpt2"},
        {"architecture": "modern", "tie_embeddings": False},
        {"architecture": "ngram", "n_gram": 3, "n_gram_rows": 23},
    ],
)
@pytest.mark.parametrize(("count", "micro"), [(2, 6), (2, 4), (3, 2), (4, 2)])
def test_the_bits_of_one_micro_batch_after_the_other(shape, optimizer, count, micro, precision):
    alone, model = small(**shape), small(**shape)
    expected = steps(alone, None, micro, optimizer, precision=precision)
    assert steps(model, Replicas(model, count), micro, optimizer, precision=precision) == expected
    assert all(p.equal(q) and p.grad is None for p, q in zip(model.parameters(), alone.parameters(), strict=True))


def test_twins_have_the_weights_and_gradients_of_their_own():
    model = small()
    model.wte.weight.requires_grad_(False)
    (_, twin) = Replicas(model, 2).models
    for (name, p), (other, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert name == other and p.data_ptr() == q.data_ptr() and p is not q and p.requires_grad == q.requires_grad
    tied = small(tie_embeddings=True, architecture="modern")
    assert len([*Replicas(tied, 2).models[1].parameters()]) == len([*tied.parameters()])
    chunked_loss(twin, batch_of(2)).backward()
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        model.blocks[0].attn.c_proj.weight.add_(1)
    assert twin.blocks[0].attn.c_proj.weight.equal(model.blocks[0].attn.c_proj.weight)


def test_they_do_work_at_the_same_time_in_order_and_each_with_its_own_model():
    replicas = Replicas(small(), 3)
    meeting = threading.Barrier(3, timeout=10)

    def work(model, task):
        meeting.wait()
        time.sleep(0.01 * (7 - task))
        return task, replicas.models.index(model), torch.get_num_threads()

    assert [*replicas.map(work, range(6))] == [(task, task % 3, 1) for task in range(6)]
    assert [*replicas.map(lambda model, task: task, range(4))] == [0, 1, 2, 3]  # the last one alone


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_fails_is_heard_once_all_are_done_and_leaves_no_gradient(failing):
    model = small()
    replicas = Replicas(model, 2)
    ended = []

    def loss(module, batch):
        if replicas.models.index(module) == failing:
            raise RuntimeError("out of memory")
        time.sleep(0.1)
        ended.append(module)
        return chunked_loss(module, batch)

    train = TrainConfig(max_steps=1, batch_size=4, micro_batch_size=2)
    mover = build_optimizer(model, train)
    some = {"step": 0, "learning_rate": 0.01, "config": train, "precision": "float32", "replicas": replicas}
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="out of memory"):
        update(model, mover, batch_of(4), loss=loss, **some)
    assert len(ended) == 1 and all(value.equal(before[name]) for name, value in model.state_dict().items())
    update(model, mover, batch_of(4), loss=chunked_loss, **some)  # what the attempt left counts for nothing
    fresh = small()
    update(fresh, build_optimizer(fresh, train), batch_of(4), loss=chunked_loss, **some | {"replicas": None})
    assert all(p.equal(q) for p, q in zip(model.parameters(), fresh.parameters(), strict=True))


def test_a_validation_is_the_same(text, tmp_path):
    prepare((str(text),), tmp_path / "data", "char")
    data, model = load_data(tmp_path / "data"), small(vocab_size=64, dropout=0.5)
    model.train()
    replicas = Replicas(model, 3)
    given = data, torch.device("cpu"), "float32"
    assert evaluate(model, *given, replicas) == evaluate(model, *given)
    assert all(each.training for each in replicas.models)


@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_a_run_with_replicas_is_the_run_without_stopped_and_resumed(config, architecture):
    shape = {"architecture": architecture, "dropout": 0.0, "micro_batch_size": 3}
    config = config.with_values(**shape, optimizer="muon", threads=2)
    two = config.resolved(replicas=2)
    whole = train_run(two)
    assert whole.config().machine.replicas == 2 and whole.config().train.micro_batch_size == 3
    with pytest.raises(Stopped):
        train_run(two, out="stopped", observers=[StopAt(6)])
    assert_same(whole, resume_run(open_run(Path("stopped"))))
    assert_same(whole, train_run(config.resolved(threads=1, replicas=1)))


def test_an_old_run_had_none(config):
    run = train_run(config.with_values(dropout=0.0, threads=2))
    file = run.config_file
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("replicas")))
    assert run.config().machine.replicas == 1
    assert build_config(file=file).machine.replicas == 1
    assert build_config(file=file, flags={"device": "cpu"}).machine.replicas == 0  # found out anew


def test_an_old_run_has_nothing_of_what_its_preset_has_today(text):
    """char-cpu once was of architecture modern, and had no n-grams; its file did not speak of them."""
    given = {"data": (str(text),), "max_steps": 6, "eval_every": 2, "save_every": 2, "sample_every": 9}
    config = build_config(preset="char-cpu", flags={"architecture": "modern", **given})
    with pytest.raises(Stopped):
        train_run(config, out="old", observers=[StopAt(4)])
    run = open_run(Path("old"))
    lines = run.config_file.read_text().splitlines(True)
    run.config_file.write_text("".join(line for line in lines if not line.startswith(("n_gram", "replicas"))))
    assert run.config().model.architecture == "modern" and run.config().machine.replicas == 1
    assert resume_run(run).result()["steps"] == 6


@pytest.mark.parametrize(
    "flags",
    [{"threads": 1}, {"dropout": 0.1}, {"gradient_checkpointing": True}, {"batch_size": 5}, {"micro_batch_size": 6}],
)
def test_flags_beside_a_settled_file_have_replicas_found_out_anew(config, flags):
    run = train_run(config.with_values(dropout=0.0, threads=2, micro_batch_size=3).resolved(replicas=2))
    file = run.config_file
    asked = (
        file.read_text().replace('"micro_batch_size", ', "").replace('"dropout", ', "").replace('"batch_size", ', "")
    )
    file.write_text(asked.replace('"threads", ', "").replace(', "threads"', ""))
    again = build_config(file=file, flags=flags)
    assert again.machine.replicas == 0
    assert train_run(again.resolved(max_steps=3)).config().machine.replicas == 1


@pytest.mark.parametrize("changes", [{"threads": 1}, {"micro_batch_size": 6}, {"gradient_checkpointing": True}])
def test_a_change_on_the_way_has_replicas_found_out_anew(config, changes):
    config = config.with_values(dropout=0.0, threads=2, micro_batch_size=3).resolved(replicas=2)
    with pytest.raises(Stopped):
        train_run(config, out="stopped", observers=[StopAt(6)])
    run = resume_run(open_run(Path("stopped")), changes=changes)
    assert run.config().machine.replicas == 1
    assert resume_run(run, changes={"max_steps": 16}).result()["steps"] == 16


def test_killed_before_the_first_save_after_a_change_it_goes_on_with_what_was_asked(config):
    config = config.with_values(dropout=0.0, threads=2, micro_batch_size=6, save_every=5, eval_every=5)
    with pytest.raises(Stopped):
        train_run(config, out="stopped", observers=[StopAt(6)])
    run = open_run(Path("stopped"))
    with pytest.raises(Stopped):
        resume_run(run, changes={"micro_batch_size": 3, "replicas": 2}, observers=[StopAt(8)])
    for step in (7, 8):
        shutil.rmtree(run.checkpoint_folder(step))
    assert load_checkpoint(run.last_whole_checkpoint()[0]).state["settings"]["micro_batch_size"] == 6
    resume_run(run)
    settings = load_checkpoint(run.last_whole_checkpoint()[0]).state["settings"]
    assert (settings["micro_batch_size"], settings["replicas"]) == (3, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 0.1}, "dropout draws its masks in order, one micro batch after the other"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing computes one micro batch at a time"),
        ({"threads": 1}, "each takes a thread, and threads is 1"),
        ({"batch_size": 5, "micro_batch_size": 0}, "it has to divide micro_batch_size 5"),
        ({"micro_batch_size": 6}, "each takes a micro batch, and of micro_batch_size 6 a step has 1"),
        ({"compile": "on"}, "a compiled model has one thread of Python; take compile off"),
    ],
)
def test_what_replicas_cannot_do_is_said_before_anything_is_written(config, values, message, monkeypatch, tmp_path):
    monkeypatch.setattr("glassgpt.machine.decide.speed_ratio", lambda *some: 2.0)
    monkeypatch.setattr("torch.compile", lambda loss: chunked_loss)
    config = config.with_values(**{"dropout": 0.0, "threads": 2, "replicas": 2} | values)
    with pytest.raises(ConfigError) as caught:
        train_run(config)
    assert str(caught.value) == f"replicas is 2; {message}; lower it, or 0 has a trial decide"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "values", [{"dropout": 0.1}, {"gradient_checkpointing": True}, {"threads": 1}, {"compile": "on"}]
)
def test_what_does_not_depend_on_the_text_is_said_before_it_is_read(config, values, monkeypatch):
    monkeypatch.setattr("glassgpt.train.run.open_data", None)
    config = config.with_values(**{"dropout": 0.0, "threads": 2, "replicas": 2} | values)
    with pytest.raises(ConfigError, match="^replicas is 2; "):
        train_run(config)


@pytest.fixture
def tried(monkeypatch):
    """A trial whose outcome can be set."""
    outcome = [2.0]

    def ratio(plain, other, run_seconds):
        plain(), other()
        return outcome[0]

    monkeypatch.setattr("glassgpt.machine.decide.speed_ratio", ratio)
    monkeypatch.setattr("glassgpt.train.settle.SHORTEST_RUN", 0.0)
    return outcome


@pytest.mark.parametrize(
    ("ratio", "values", "replicas", "micro"),
    [
        (2.0, {}, 2, 3),
        (1.1, {}, 1, 6),
        (2.0, {"dropout": 0.1}, 1, 6),
        (2.0, {"gradient_checkpointing": True}, 1, 6),
        (2.0, {"batch_size": 5}, 1, 5),
        (2.0, {"threads": 1}, 1, 6),
        (2.0, {"micro_batch_size": 2}, 1, 2),  # three of them
        (2.0, {"micro_batch_size": 3}, 2, 3),
        (2.0, {"replicas": 1}, 1, 6),
    ],
)
def test_how_many_is_found_out_by_a_trial(config, tried, recorder, ratio, values, replicas, micro):
    tried[0] = ratio
    given = {"dropout": 0.0, "threads": 2, "replicas": 0, "micro_batch_size": 0, "max_steps": 3} | values
    recorder.threads = []
    recorder.on_step = lambda step, metrics: recorder.threads.append(torch.get_num_threads())
    run = train_run(config.with_values(**given), observers=[recorder])
    settled = run.config()
    assert (settled.machine.replicas, settled.train.micro_batch_size) == (replicas, micro)
    assert settled.machine.threads == given["threads"]
    said = [text for _, text in recorder.of("message") if "replicas" in text]
    assert bool(said) == (replicas > 1)
    assert set(recorder.threads) == {1 if replicas > 1 else given["threads"]}
    assert torch.get_num_threads() == 1  # as it was before


def test_a_run_of_a_moment_is_not_delayed_by_a_trial(config, monkeypatch):
    monkeypatch.setattr("glassgpt.machine.decide.speed_ratio", lambda *some: pytest.fail("tried"))
    given = {"dropout": 0.0, "threads": 2, "replicas": 0, "micro_batch_size": 0}
    assert train_run(config.with_values(**given)).config().machine.replicas == 1


def test_a_trial_leaves_the_model_as_it_was(config, tried):
    given = {"dropout": 0.0, "threads": 2, "micro_batch_size": 0, "max_steps": 3}
    chosen = train_run(config.with_values(**given, replicas=0))
    asked = train_run(chosen.config())
    assert chosen.config() == asked.config()
    assert_same(chosen, asked)
