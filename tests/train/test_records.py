"""Runs on conversations and on labels: one loop, other data."""

import json
import math
import random
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import glassgpt
from glassgpt.checkpoint import find_checkpoint, load_checkpoint, load_model, merge_checkpoint, open_run
from glassgpt.data import load_data, prepare
from glassgpt.errors import CheckpointError, ConfigError, DataError, Stopped
from glassgpt.generate import load_chat, load_classifier, load_run
from glassgpt.model.classifier import Classifier
from glassgpt.train import resume_run, train_run
from glassgpt.train.evaluate import evaluate

from .conftest import TINY
from .test_run import StopAt, assert_same

SMALL = TINY | {"tokenizer": "byte", "context_length": 60, "n_embd": 24, "dropout": 0.1}
CPU = torch.device("cpu")


def write_lines(name, records):
    Path(name).write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return name


@pytest.fixture
def talks():
    draw = random.Random(3)
    pairs = [{"prompt": f"{draw.randrange(100)}?", "completion": "Yes, it is."} for _ in range(60)]
    return write_lines("talks.jsonl", [*pairs, {"prompt": "long " * 40, "completion": "never"}, *pairs[:9]])


@pytest.fixture
def moods():
    draw = random.Random(3)
    rows = [(draw.choice(["rain", "sun"]), draw.choice("abcdef") * draw.randrange(1, 70)) for _ in range(90)]
    return write_lines("moods.jsonl", [{"text": f"{a} {b} {a}", "label": a == "sun"} for a, b in rows])


def flags(source, **more):
    return glassgpt.build_config(flags=SMALL | {"data": (source,)} | more)


@pytest.mark.parametrize("kind", ["talks", "moods"])
@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_stopped_and_resumed_is_the_same_run(kind, architecture, request, tmp_path):
    sizes = {"gpt2": {}, "modern": {"n_head": 4, "n_kv_head": 2, "dropout": 0.0}}[architecture]
    config = flags(request.getfixturevalue(kind), architecture=architecture, **sizes)
    whole = train_run(config, out="whole")
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[StopAt(9)])
    shutil.rmtree(tmp_path / "cache")
    assert_same(whole, resume_run(open_run(Path("r"))))
    again = train_run(glassgpt.build_config(file=whole.config_file), out="again")
    assert_same(whole, again)


def test_a_run_on_conversations_says_what_it_did(talks, recorder, picture):
    run = train_run(
        flags(talks, eval_every=7), out="r", observers=[recorder], sample=lambda model, data: data.meta.task
    )
    messages = [message for _, message in recorder.of("message")]
    assert any("70 conversations" in m and "answers to learn" in m for m in messages)
    long = "longer than context_length 60, and cut there: 1 of 70 conversations; left out, since no answer begins"
    assert any(long in m for m in messages)
    assert run.config().data.task == "conversations"
    result = json.loads(run.result_file.read_text())
    assert result["task"] == "conversations" and result["bits_per_byte"] > 0 < result["baseline_bits_per_byte"]
    assert result["tokens"] < 14 * 6 * 60  # the filling is not counted
    assert load_checkpoint(find_checkpoint(Path("r"))).template.name == "plain"
    assert (Path("r") / "loss.png").stat().st_size > 10_000


def test_validation_is_the_answers_alone(talks):
    """Each conversation by itself, its answer and the end of it."""
    train_run(flags(talks), out="r")
    data = prepare([talks], "data", "byte")
    model = load_model(load_checkpoint(find_checkpoint(Path("r"))))
    nats, targets, size = 0.0, 0, 0
    for start, end in pairwise([*data.val_documents[:, 0], len(data.val)]):
        ids = torch.from_numpy(data.val[start:end].astype(np.int64))[:61]
        with torch.inference_mode():
            log_p = model(ids[None, :-1])[0].log_softmax(-1)
        said = bytes(ids[ids < 256].tolist()).decode().partition("### Assistant:\n")[2]
        answer = len(ids) - 1 - len(said.encode()) - int(ids[-1] == 256)  # where it begins
        for position in range(answer, len(ids) - 1):
            nats -= log_p[position, ids[position + 1]].item()
            targets += 1
        size += len(said)
    assert 0 < size < targets < len(data.val) / 2
    measured = evaluate(model, data, CPU, "float32")
    assert measured["val_loss"] == pytest.approx(nats / targets, rel=1e-5)
    assert measured["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_what_was_learned_is_what_chat_says(talks):
    train_run(flags(talks, max_steps=150, learning_rate=1e-2, dropout=0.0, sample_every=150), out="r")
    chat = load_chat("r")
    assert "".join(chat.say("12?", temperature=0, max_new_tokens=40)) == "Yes, it is."
    assert [m.role for m in chat.messages] == ["user", "assistant"] and chat.messages[1].content == "Yes, it is."
    merged = train_run(flags(talks, max_steps=3, tokenizer="byte").with_values(from_="r", tokenizer="byte"), out="on")
    assert load_checkpoint(find_checkpoint(merged.folder)).template == chat.template


def test_a_run_on_labels_learns_to_tell_them_apart(moods, recorder):
    run = train_run(flags(moods, max_steps=80, learning_rate=1e-2, dropout=0.0), out="r", observers=[recorder])
    result = json.loads(run.result_file.read_text())
    assert result["task"] == "labels" and result["accuracy"] == 1.0 > result["baseline_accuracy"]
    last = [line for line in run.metrics() if "val_loss" in line][-1]
    confusion, val = np.array(last["confusion"]), run_data(run).val_marks
    tables = [np.array(metrics["confusion"]) for _, _, metrics in recorder.of("evaluation")]
    assert any((table != table.T).any() for table in tables)  # so that rows and columns cannot be confused
    assert all(table.sum(axis=1).tolist() == np.bincount(val).tolist() for table in tables)
    assert confusion.trace() / confusion.sum() == last["accuracy"] == result["accuracy"]
    model = load_classifier("r")
    assert model.labels == ("false", "true")
    assert model.verdict("sun bbb sun").label == "true" and model.verdict("rain dd rain").label == "false"
    assert load_checkpoint(find_checkpoint(Path("r"))).labels == ("false", "true")


def run_data(run):
    (cached,) = Path("cache/data").iterdir()
    return load_data(cached)


def test_classifying_many_texts_is_classifying_each(moods):
    """Whatever stands beside it in a batch, and in whatever order; texts beyond the context are cut as in training."""
    train_run(flags(moods), out="r")
    model, data = load_classifier("r"), prepare([moods], "data", "byte")
    texts = [json.loads(line)["text"] for line in Path(moods).read_text().splitlines()]
    together = model.probabilities(texts)
    apart = torch.cat([model.probabilities([text]) for text in texts])
    assert torch.allclose(together, apart, atol=1e-6)
    assert [v.label for v in model.classify(texts)] == [model.verdict(text).label for text in texts]
    for text, said in zip(texts[:9], together, strict=False):
        with torch.inference_mode():
            logits = model.model(torch.tensor([list(text.encode())[:60]]))[0, -1]
        assert torch.allclose(said, logits.softmax(-1), atol=1e-6)
    assert max(len(text) for text in texts[:9]) > 60
    measured = evaluate(model.model, data, CPU, "float32")
    starts = [*data.val_documents[:, 0], len(data.val)]
    held_out = [bytes(data.val[a:b].astype(np.uint8)).decode() for a, b in pairwise(starts)]
    right = sum(v.label == model.labels[i] for v, i in zip(model.classify(held_out), data.val_marks, strict=True))
    assert measured["accuracy"] == right / len(held_out)
    with pytest.raises(DataError, match="text 2 is empty"):
        model.probabilities(["a", "", "b"])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("lora", [0, 2])
def test_labels_from_a_parent(moods, talks, lora, tied):
    """The body is the parent's, its own output matrix is gone, and adapters fold into it."""
    train_run(flags(talks, tie_embeddings=tied), out="parent")
    going_on = {name: SMALL[name] for name in SMALL if not name.startswith(("n_", "context", "tokenizer"))}
    still = {"learning_rate": 1e-30, "weight_decay": 0.0} if not lora else {}
    config = glassgpt.build_config(flags=going_on | {"data": (moods,), "from_": "parent", "lora": lora} | still)
    train_run(config, out="r")
    checkpoint = load_checkpoint(find_checkpoint(Path("r")))
    model, parent = load_model(checkpoint), load_model(load_checkpoint(find_checkpoint(Path("parent"))))
    assert isinstance(model, Classifier) and not hasattr(model.body, "lm_head") and model.score.weight.shape == (2, 24)
    tokens = torch.arange(40).reshape(2, 20)
    if lora:
        assert {name.rpartition(".")[2] for name in checkpoint.weights()} == {"lora_A", "lora_B", "weight"}
        merge_checkpoint(checkpoint, Path("whole"))
        whole = load_model(load_checkpoint(Path("whole")))
        with torch.inference_mode():
            assert not torch.allclose(model.hidden(tokens), parent.hidden(tokens), atol=1e-6)
            assert torch.allclose(whole(tokens), model(tokens), atol=1e-5)
    else:
        with torch.inference_mode():
            assert torch.equal(model.hidden(tokens), parent.hidden(tokens))


def test_models_are_used_for_what_they_were_made_for(moods, talks):
    train_run(flags(moods, max_steps=5), out="m")
    train_run(flags(talks, max_steps=5), out="t")
    train_run(flags("talks.jsonl", max_steps=5, task="text", text_field="prompt"), out="x")
    for use, name, said in (
        (load_run, "m", "tells labels apart and writes no text; use: glassgpt classify m/"),
        (load_chat, "m", "tells labels apart and answers no questions; use: glassgpt classify m/"),
        (load_chat, "x", "was not trained on conversations; let it write with: glassgpt sample x/"),
        (load_classifier, "t", "was not trained on labels; teach it: glassgpt train TEXTS.csv --from t/"),
    ):
        with pytest.raises(ConfigError) as caught:
            use(name)
        assert said in str(caught.value)
    with pytest.raises(
        CheckpointError, match="m tells labels apart, and a run goes on from models that write text only"
    ):
        train_run(flags(talks).with_values(from_="m"))
    assert load_run("t").generate("### User:\n", max_new_tokens=3)


def test_a_prepared_folder_is_for_what_it_was_prepared_for(talks):
    prepare([talks], "data", "byte")
    assert train_run(flags("data", max_steps=5, save_every=5), out="r").config().data.task == "conversations"
    with pytest.raises(ConfigError, match="was prepared for task conversations, not text; leave task out"):
        train_run(flags("data", task="text"))


def test_a_run_from_before_there_were_tasks_learned_text(moods):
    """Its config.toml says nothing of one, and the fields of its records would say labels now."""
    run = train_run(flags(moods, task="text", max_steps=3), out="old")
    older = "".join(line for line in run.config_file.read_text().splitlines(True) if not line.startswith("task"))
    Path("older.toml").write_text(older.replace('"task", ', "").replace(', "task"', ""))
    config = glassgpt.build_config(file=Path("older.toml"))
    assert config.data.task == "text" and glassgpt.build_config(flags={"data": moods}).data.task == "auto"
    assert_same(run, train_run(config, out="again"))


def test_text_does_not_make_a_chat_model_forget_how_to_chat(talks, text):
    train_run(flags(talks, max_steps=3), out="chat")
    train_run(flags(str(text), max_steps=3).with_values(from_="chat"), out="on")
    assert load_chat("on").template == load_chat("chat").template


def test_the_task_of_a_run_cannot_change_on_the_way(talks):
    with pytest.raises(Stopped):
        train_run(flags(talks), out="r", observers=[StopAt(9)])
    file = Path("r/config.toml")
    file.write_text(file.read_text().replace('task = "conversations"', 'task = "text"'))
    with pytest.raises(ConfigError, match="task was 'conversations' and is 'text'; this cannot change"):
        resume_run(open_run(Path("r")))
