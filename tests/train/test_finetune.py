"""Going on from weights that are there: what is taken from the parent, what may be chosen, and adapters."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import glassgpt
from glassgpt.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_model,
    load_tensors,
    merge_checkpoint,
    open_run,
)
from glassgpt.config.presets import RECIPES
from glassgpt.data import prepare
from glassgpt.errors import CheckpointError, ConfigError, MachineError, Stopped, TokenizerError
from glassgpt.train import resume_run, train_run

from .conftest import TINY
from .test_run import StopAt, assert_same

TRAIN = {
    name: value
    for name, value in TINY.items()
    if name not in ("tokenizer", "context_length", "n_layer", "n_head", "n_embd", "n_inner")
}


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    return tmp_path_factory.mktemp("parents")


@pytest.fixture(params=["gpt2", "modern"])
def parent(request, config, parents):
    """Trained once; each test has a copy of its own."""
    sizes = {"gpt2": {}, "modern": {"n_head": 4, "n_kv_head": 2, "dropout": 0.0}}[request.param]
    trained = parents / request.param
    if not trained.exists():
        train_run(config.with_values(architecture=request.param, **sizes), out=trained)
    shutil.copytree(trained, "parent")
    return open_run(Path("parent"))


def going_on(text, **flags):
    return glassgpt.build_config(flags=TRAIN | {"data": (str(text),), "from_": "parent"} | flags)


def weights_at(folder):
    return load_tensors(find_checkpoint(Path(folder)) / "model.safetensors")


def test_it_begins_with_the_parents_weights_shape_and_tokenizer(parent, text):
    """With a rate so small that nothing moves."""
    run = train_run(going_on(text, learning_rate=1e-30, weight_decay=0.0, max_steps=2), out="child")
    assert run.config().model == replace(parent.config().model, dropout=0.1)
    before, after = weights_at("parent"), weights_at("child")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    tokenizers = [load_checkpoint(find_checkpoint(Path(name))).tokenizer().to_json() for name in ("parent", "child")]
    assert tokenizers[0] == tokenizers[1]


def test_it_learns_on(parent, text):
    run = train_run(going_on(text, max_steps=30), out="child")
    result, before = (json.loads((Path(name) / "result.json").read_text()) for name in ("child", "parent"))
    assert result["val_loss"] < before["val_loss"] - 0.05
    assert run.config().finetune.from_ == "parent"


def test_without_a_preset_the_rate_is_a_fine_tunings(text):
    assert going_on(text).preset == "finetune" and going_on(text, lora=2).preset == "lora"
    assert (
        glassgpt.build_config(flags={"from_": "x"}).train.learning_rate == RECIPES["finetune"]["learning_rate"] == 1e-4
    )
    assert glassgpt.build_config(flags={"from_": "x", "lora": 2}).train.learning_rate == 1e-3
    with pytest.raises(ConfigError, match="preset 'lora' is not known"):
        glassgpt.build_config(preset="lora", flags={"from_": "x"})
    assert glassgpt.build_config(preset="char-cpu", flags={"from_": "x"}).preset == "char-cpu"


@pytest.mark.parametrize("lora", [0, 2])
def test_stopped_and_resumed_is_the_same_run_also_without_the_parent(parent, text, tmp_path, lora):
    whole = train_run(going_on(text, lora=lora), out="whole")
    with pytest.raises(Stopped):
        train_run(going_on(text, lora=lora), out="r", observers=[StopAt(9)])
    shutil.rmtree("parent")
    shutil.rmtree(tmp_path / "cache")  # the text has to be cut into tokens again, by the parent's tokenizer
    assert_same(whole, resume_run(open_run(Path("r"))))


def test_killed_before_anything_was_saved_it_begins_again(parent, text):
    whole = train_run(going_on(text), out="whole")
    train_run(going_on(text), out="r")
    shutil.rmtree("r/checkpoints")
    Path("r/metrics.jsonl").write_bytes(b"")
    Path("r/result.json").unlink()
    assert_same(whole, resume_run(open_run(Path("r"))))


@pytest.mark.parametrize("lora", [0, 2])
def test_a_rerun_from_its_config_file_is_the_same_run(parent, text, lora):
    first = train_run(going_on(text, lora=lora), out="first")
    again = train_run(glassgpt.build_config(file=first.config_file), out="again")
    assert_same(first, again)
    assert re.search('^from = "parent"', first.config_file.read_text(), re.M)


# What may be chosen, and what may not


def test_a_shorter_context_crops_the_positions(parent, text):
    run = train_run(going_on(text, context_length=7, learning_rate=1e-30, weight_decay=0.0, max_steps=2), out="child")
    assert run.config().model.context_length == 7
    before, after = weights_at("parent"), weights_at("child")
    if "wpe.weight" in before:
        assert torch.equal(after["wpe.weight"], before["wpe.weight"][:7])
    ours, theirs = glassgpt.load_run("child"), glassgpt.load_run("parent")
    assert torch.allclose(ours.logits("glass s"), theirs.logits("glass s"), atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"context_length": 12},
            "context_length 12 is longer than parent's 11, and its weights know no position beyond",
        ),
        ({"n_layer": 3}, "n_layer 3 does not fit parent, which has 2; leave it out"),
        ({"vocab_size": 99}, "vocab_size 99 does not fit parent, which has 17; leave it out"),
        ({"tie_embeddings": False}, "tie_embeddings False does not fit parent, which has True"),
    ],
)
def test_what_the_weights_do_not_allow_is_refused(parent, text, flags, message):
    with pytest.raises(ConfigError, match=message):
        train_run(going_on(text, **flags), out="child")
    assert not Path("child").exists()


def test_another_tokenizer_is_refused_and_the_same_one_is_not(parent, text):
    for other in ("byte", "bpe", "char"):
        with pytest.raises(
            TokenizerError, match=f"tokenizer {other} is not the char tokenizer that parent was trained with"
        ):
            train_run(going_on(text, tokenizer=other), out="child")
    same = find_checkpoint(Path("parent")) / "tokenizer.json"
    train_run(going_on(text, tokenizer=str(same), max_steps=2), out="child")


def test_prepared_text_has_to_be_of_the_parents_tokenizer(parent, text):
    prepare((str(text),), "bytes", "byte")
    with pytest.raises(TokenizerError, match="bytes was prepared with another tokenizer than parent's char"):
        train_run(going_on("bytes"), out="child")
    prepare((str(text),), "chars", glassgpt.load_run("parent").tokenizer)
    train_run(going_on("chars", max_steps=2), out="child")


def test_text_that_the_parents_vocabulary_cannot_write_is_named(parent, text):
    text.write_text("Glass & more of it. " * 40)
    with pytest.raises(TokenizerError, match=r"character 'G' \(U\+0047\)"):
        train_run(going_on(text), out="child")


def test_a_parent_that_came_without_a_tokenizer(text):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 260, "n_positions": 19, "n_layer": 2, "n_head": 3, "n_embd": 24}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained("theirs")
    with pytest.raises(
        TokenizerError, match="theirs came without a tokenizer; say which one with tokenizer: gpt2, byte"
    ):
        train_run(going_on(text, from_="theirs"), out="child")
    Path("other.txt").write_text("".join(map(chr, range(33, 400))))
    prepare(("other.txt",), "other", "char")
    with pytest.raises(TokenizerError, match="has 367 tokens, theirs only 260; it belongs to another model"):
        train_run(going_on(text, from_="theirs", tokenizer="other/tokenizer.json"), out="child")
    run = train_run(going_on(text, from_="theirs", tokenizer="byte", max_steps=2), out="child")
    assert run.config().model.vocab_size == 260  # and not cut to the tokenizer's 257


def test_a_parent_that_is_none():
    with pytest.raises(MachineError, match="no/where is no file or folder here, not in the hub's cache"):
        train_run(going_on("t.txt", from_="no/where"))
    with pytest.raises(ConfigError, match="lora adapts a model that is there; the setting from says which one"):
        glassgpt.build_config(flags={"lora": 2})


# Adapters


def test_only_adapters_are_saved_and_the_weights_stay_as_they_are(parent, text):
    run = train_run(going_on(text, lora=2, max_steps=20), out="child")
    folder = find_checkpoint(run.folder)
    saved = load_tensors(folder / "model.safetensors")
    assert saved and all(name.endswith(("lora_A", "lora_B")) for name in saved)
    moments = {name.partition("/")[0] for name in load_tensors(folder / "optimizer.safetensors")}
    assert moments == saved.keys()
    model = load_model(load_checkpoint(folder))
    before = weights_at("parent")
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if "lora" not in name)
    result, parents = (json.loads((Path(name) / "result.json").read_text()) for name in ("child", "parent"))
    assert result["val_loss"] < parents["val_loss"]


def test_merged_it_computes_the_same(parent, text):
    run = train_run(going_on(text, lora=2, max_steps=20), out="child")
    merge_checkpoint(load_checkpoint(find_checkpoint(run.folder)), Path("merged"))
    adapted, merged = glassgpt.load_run("child").logits("glass see"), glassgpt.load_run("merged").logits("glass see")
    assert (adapted - merged).abs().max() <= 1e-5 * merged.abs().max()
    assert not any("lora" in name for name in load_tensors(Path("merged/model.safetensors")))
    with pytest.raises(ConfigError, match="merged has no adapters to fold in; it is whole as it is"):
        merge_checkpoint(load_checkpoint(Path("merged")), Path("again"))
    grandchild = train_run(going_on(text, from_="child", max_steps=2), out="grandchild")  # with the adapters folded in
    assert not any("lora" in name for name in weights_at(grandchild.folder))


def test_adapters_away_from_their_run_say_what_is_missing(parent, text):
    run = train_run(going_on(text, lora=2, max_steps=2), out="child")
    shutil.copytree(find_checkpoint(run.folder), "elsewhere/deep/copy")
    with pytest.raises(CheckpointError, match="copy holds adapters only, and the model that they belong to is not in"):
        glassgpt.load_run("elsewhere/deep/copy")


# Gradient checkpointing


@pytest.mark.parametrize("architecture", ["gpt2", "modern", "textbook"])
def test_gradient_checkpointing_is_the_same_run(config, architecture):
    """With dropout: the masks that a block drew are drawn again."""
    config = config.with_values(architecture=architecture, n_head=4, dropout=0.1)
    plain = train_run(config, out="plain")
    recomputed = train_run(config.with_values(gradient_checkpointing=True), out="recomputed")
    losses = [[line["train_loss"] for line in run.metrics() if "train_loss" in line] for run in (plain, recomputed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("name", "value"), [("lora_alpha", "9.0"), ("lora_on", '"mlp"'), ("lora", "3"), ("from", '"elsewhere"')]
)
def test_adapters_cannot_change_on_the_way(parent, text, name, value):
    with pytest.raises(Stopped):
        train_run(going_on(text, lora=2), out="r", observers=[StopAt(9)])
    file = Path("r/config.toml")
    file.write_text(re.sub(f"^{name} = [^#]*", f"{name} = {value} ", file.read_text(), flags=re.M))
    with pytest.raises(
        ConfigError, match=f"not what the run was begun with: {name} was .* and is .*; this cannot change"
    ):
        resume_run(open_run(Path("r")))


def test_killed_before_the_parent_was_kept_it_is_kept_by_the_next_sitting(parent, text):
    with pytest.raises(Stopped):
        train_run(going_on(text, lora=2), out="r", observers=[StopAt(2)])
    run = open_run(Path("r"))
    shutil.rmtree(run.checkpoints_folder)
    run.metrics_file.write_bytes(b"")
    shutil.rmtree("r/parent")
    resume_run(run)
    assert glassgpt.load_run("r") is not None


def test_the_parent_that_adapters_belong_to_is_verified_and_missed(parent, text):
    with pytest.raises(Stopped):
        train_run(going_on(text, lora=2), out="r", observers=[StopAt(9)])
    weights = Path("r/parent/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="parent, which the adapters belong to, is damaged: model.safetensors"):
        glassgpt.load_run("r")
    shutil.rmtree("r/parent")
    with pytest.raises(
        CheckpointError, match="parent is gone, the model that this run's adapters belong to; bring it back"
    ):
        resume_run(open_run(Path("r")))


def test_the_tokenizer_that_was_asked_for_is_asked_for_again(parent, text):
    file = find_checkpoint(Path("parent")) / "tokenizer.json"
    first = train_run(going_on(text, tokenizer=str(file), max_steps=4), out="first")
    assert_same(first, train_run(glassgpt.build_config(file=first.config_file), out="again"))


def test_heads_may_be_said_for_a_parent_that_does_not(text):
    from tests.formats.references import SHAPE, BookGPT

    torch.save(BookGPT(260, *SHAPE[1:]).state_dict(), "book.pth")
    with pytest.raises(ConfigError, match="add --n-head"):
        train_run(going_on(text, from_="book.pth", tokenizer="byte"), out="child")
    run = train_run(going_on(text, from_="book.pth", tokenizer="byte", n_head=3, max_steps=2), out="child")
    assert run.config().model.n_head == 3
