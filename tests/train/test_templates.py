"""A model keeps the template that it was taught, whatever template a new model would get."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import glassgpt
from glassgpt.checkpoint import find_checkpoint, load_checkpoint, merge_checkpoint, open_run, save_checkpoint
from glassgpt.data import prepare
from glassgpt.errors import DataError, Stopped
from glassgpt.finetune import PLAIN
from glassgpt.generate import load_chat
from glassgpt.model import build_model
from glassgpt.tokenizer import build_tokenizer
from glassgpt.train import resume_run, train_run

from .test_finetune import TRAIN
from .test_run import StopAt, assert_same

OLDER = replace(PLAIN, before=PLAIN.before | {"user": "Human: ", "assistant": "Machine: "})


@pytest.fixture
def talks():
    records = [{"prompt": f"{n}?", "completion": "Yes."} for n in range(40)]
    Path("talks.jsonl").write_text("\n".join(map(json.dumps, records)))
    return "talks.jsonl"


@pytest.fixture
def parent():
    config = glassgpt.build_config(flags={"n_layer": 2, "n_head": 3, "n_embd": 24, "vocab_size": 257, "max_steps": 1})
    config = config.with_values(context_length=40, architecture="gpt2", n_kv_head=0, head_dim=0).model
    weights = dict(build_model(config, seed=3).named_parameters())
    tokenizer = build_tokenizer("byte", lambda: iter(()))
    state = {"step": 0}
    save_checkpoint(
        Path("old"), config=config, weights=weights, tokenizer_json=tokenizer.to_json(), template=OLDER, state=state
    )
    return "old"


def going_on(source, **more):
    return glassgpt.build_config(flags=TRAIN | {"data": (source,), "from_": "old"} | more)


@pytest.mark.parametrize("lora", [0, 2])
def test_a_run_that_goes_on_writes_as_its_parent_did(talks, parent, lora):
    train_run(
        glassgpt.build_config(flags=TRAIN | {"data": (talks,), "tokenizer": "byte", "context_length": 40}), out="new"
    )
    whole = train_run(going_on(talks, lora=lora), out="whole", sample=shown)
    train_run(going_on(talks, lora=lora).with_values(from_="new"), out="newer", sample=shown)
    assert load_chat("new").template == PLAIN and load_chat("whole").template == OLDER
    # The same tokenizer and text: the cache keeps the two apart.
    assert Path("whole/samples/step-00000014.txt").read_text().startswith("Human: ")
    assert Path("newer/samples/step-00000014.txt").read_text().startswith("### User:")
    with pytest.raises(Stopped):
        train_run(going_on(talks, lora=lora), out="r", observers=[StopAt(9)])
    shutil.rmtree("cache")
    shutil.rmtree("old")
    assert_same(whole, resume_run(open_run(Path("r"))))
    if lora:
        merge_checkpoint(load_checkpoint(find_checkpoint(Path("whole"))), Path("merged"))
        assert load_chat("merged").template == OLDER


def shown(model, data):
    return data.tokenizer().decode(data.val[:30].tolist())


@pytest.mark.parametrize("lora", [0, 2])
def test_also_where_it_begins_again(talks, parent, lora):
    whole = train_run(going_on(talks, lora=lora), out="whole")
    train_run(going_on(talks, lora=lora), out="r")
    shutil.rmtree("r/checkpoints")
    Path("r/metrics.jsonl").write_bytes(b"")
    Path("r/result.json").unlink()
    assert_same(whole, resume_run(open_run(Path("r"))))


def test_conversations_that_were_prepared_otherwise_are_refused(talks, parent):
    prepare([talks], "data", "byte")
    with pytest.raises(
        DataError, match="the conversations in data are not written as old knows them; name the text itself"
    ):
        train_run(going_on("data"))
