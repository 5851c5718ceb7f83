"""nanoGPT's, minGPT's and the book's files: what their models compute, ours compute; and nothing in a file is ever run."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from glassgpt.checkpoint import load_model
from glassgpt.errors import CheckpointError, ConfigError, TokenizerError
from glassgpt.formats import import_model, unpickle
from glassgpt.formats.exchange import tokenizer_beside

from .conftest import shaken
from .references import DESCRIPTIONS, NANOGPT_ARGS, SHAPE, BookGPT, MinimalGPT, nanogpt_content

TOKENS = torch.arange(17).remainder(61)[None] * 5 % 61


def nanogpt_file(model, path="ckpt.pt", **more):
    content = nanogpt_content(model.state_dict()) | {
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.95)}]},
        "iter_num": 3,
        "best_val_loss": torch.tensor(1.5),
        "config": {"out_dir": "out", "decay_lr": True},
    }
    torch.save(content | more, path)


def write(model, path="model.pth"):
    torch.save(model.state_dict(), path)


@pytest.fixture
def no_process(monkeypatch):
    """The reader in this process, for what is done with a file's content once it has been read."""

    def run(reader):
        unpickle._main(*reader[-2:])
        return 0, ""

    monkeypatch.setattr(unpickle, "_run", run)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_the_same_logits_and_gradient_as_the_description_from_its_file(name):
    """Logits and loss alone, without the file, in test_fidelity.py."""
    theirs = shaken(DESCRIPTIONS[name][0]())
    nanogpt_file(theirs, "model.pth") if name.startswith("nano") else write(theirs)
    checkpoint = import_model("model.pth", Path("ours"), n_head=None if name.startswith("nano") else 3)
    ours = load_model(checkpoint)
    expected, logits = theirs(TOKENS), ours(TOKENS)
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    for x in (logits, expected):
        F.cross_entropy(x[0, :-1], TOKENS[0, 1:]).backward()
    embedding = theirs.tok_emb if "book" in name else theirs.transformer["wte"]
    assert torch.allclose(ours.wte.weight.grad, embedding.weight.grad, rtol=1e-4, atol=1e-6)


def test_a_trained_file_of_the_book_with_its_optimizer():
    model = shaken(BookGPT(*SHAPE))
    torch.save(
        {"model_state_dict": model.state_dict(), "optimizer_state_dict": {"state": {}, "param_groups": []}}, "m.pth"
    )
    ours = load_model(import_model("m.pth", Path("ours"), n_head=3))
    with torch.inference_mode():
        assert torch.allclose(ours(TOKENS), model(TOKENS), atol=1e-5)


def test_heads_are_asked_for_where_the_file_lacks_them_and_only_there(no_process):
    write(shaken(BookGPT(*SHAPE)))
    with pytest.raises(ConfigError, match="does not say how many attention heads its model has; add --n-head"):
        import_model("model.pth", Path("ours"))
    with pytest.raises(ConfigError, match="n_embd 24 does not divide into n_head 5"):
        import_model("model.pth", Path("ours"), n_head=5)
    nanogpt_file(shaken(MinimalGPT(*SHAPE)))
    with pytest.raises(ConfigError, match=r"ckpt.pt says n_head 3; leave --n-head out"):
        import_model("ckpt.pt", Path("ours"), n_head=4)


def test_the_folder_of_a_nanogpt_run_is_taken_as_well_as_its_file(no_process):
    Path("out").mkdir()
    nanogpt_file(shaken(MinimalGPT(*SHAPE)), "out/ckpt.pt")
    assert import_model("out", Path("ours")).config.activation == "gelu"


# Vocabularies


def characters(count):
    return [chr(ord("0") + number) for number in range(count)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.json", json.dumps({"stoi": {c: i for i, c in enumerate(characters(61))}, "vocab_size": 61})),
        ("vocab.json", json.dumps({c: i for i, c in enumerate(characters(61))})),
        ("vocab.json", json.dumps(characters(61))),
        ("input.txt", "".join(reversed(characters(61))) * 2),
    ],
)
def test_a_char_vocabulary_is_read_from_beside_the_file(name, content):
    Path(name).write_text(content, encoding="utf-8")
    tokenizer = tokenizer_beside(Path("ckpt.pt"), 61)
    assert tokenizer.kind == "char" and tokenizer.encode("01a") == [0, 1, ord("a") - ord("0")]


def test_the_vocabulary_beside_a_file_comes_along(no_process):
    nanogpt_file(shaken(MinimalGPT(*SHAPE)))
    Path("vocab.json").write_text(json.dumps(characters(61)), encoding="utf-8")
    assert import_model("ckpt.pt", Path("ours")).tokenizer().vocab_size == 61


def test_a_pickled_vocabulary_is_never_read():
    nanogpt_file(shaken(MinimalGPT(*SHAPE)))
    Path("meta.pkl").write_bytes(pickle.dumps(Evil("touched")))
    assert not import_model("ckpt.pt", Path("ours")).has_tokenizer and not Path("touched").exists()


def test_a_vocabulary_that_does_not_fit_is_refused():
    Path("vocab.json").write_text(json.dumps(characters(60)), encoding="utf-8")
    with pytest.raises(TokenizerError, match="has 60 characters, the model 61 tokens"):
        tokenizer_beside(Path("ckpt.pt"), 61)
    for damaged in ("{", '{"a": "b"}', '["ab"]', "7", '["a", "a"]', '{"a": 0, "b": "x"}', '["\\ud800"]'):
        Path("vocab.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(TokenizerError, match=r"vocab\.json"):
            tokenizer_beside(Path("ckpt.pt"), 61)


# Hostile and damaged files


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def evil_everywhere():
    torch.save({"model": Evil("touched"), "model_args": NANOGPT_ARGS}, "evil.pt")


def evil_bare():
    Path("evil.pt").write_bytes(pickle.dumps(Evil("touched")))


def evil_old_format():
    torch.save({"model": Evil("touched")}, "evil.pt", _use_new_zipfile_serialization=False)


def evil_code():
    """Not a call but a class of torch that runs a file's own code."""
    torch.save({"model": torch.nn.Linear(2, 2)}, "evil.pt")


@pytest.mark.parametrize("make", [evil_everywhere, evil_bare, evil_old_format, evil_code])
def test_a_malicious_file_does_nothing_but_raise_an_error(make):
    make()
    with pytest.raises(CheckpointError) as caught:
        import_model("evil.pt", Path("ours"))
    assert "evil.pt cannot be imported: it holds more than tensors and plain values" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("touched").exists() and not Path("ours").exists()
    if make is not evil_code:  # the same file does run in an ordinary reader: the test would notice
        with pytest.raises(Exception, match=r".*"):
            torch.load("evil.pt", weights_only=False)["model_args"]["nothing"]
        assert Path("touched").exists()


def zip_that_lies():
    nanogpt_file(shaken(MinimalGPT(*SHAPE)), "broken.pt")
    with zipfile.ZipFile("broken.pt") as whole, zipfile.ZipFile("again.pt", "w") as part:
        for entry in whole.namelist():
            if not entry.endswith("data/3"):
                part.writestr(entry, whole.read(entry))
    Path("again.pt").replace("broken.pt")


BROKEN = {
    "empty": lambda: Path("broken.pt").write_bytes(b""),
    "text": lambda: Path("broken.pt").write_text("not a model"),
    "cut": lambda: (nanogpt_file(shaken(MinimalGPT(*SHAPE)), "broken.pt"), os.truncate("broken.pt", 9000)),
    "a tensor's bytes are missing": zip_that_lies,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_refused_in_one_line(name):
    BROKEN[name]()
    with pytest.raises(CheckpointError, match="broken.pt cannot be imported: it ") as caught:
        import_model("broken.pt", Path("ours"))
    assert "\n" not in str(caught.value) and not Path("ours").exists()


def test_a_file_that_holds_no_dict():
    torch.save([1, 2], "other.pt")
    with pytest.raises(CheckpointError, match="other.pt cannot be imported: it holds a list, not a dict of tensors"):
        import_model("other.pt", Path("ours"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "is of no known school"),
        ({"model": {}, "model_args": {"n_layer": 2}}, "its model_args describe no model"),
        ({"model": {}, "model_args": {**NANOGPT_ARGS, "n_head": "3"}}, "n_head is '3'"),
        ({"model": {}, "model_args": NANOGPT_ARGS}, "lacks tensors: it has 0, too few for the 2 layers"),
        ({"model": 7, "model_args": NANOGPT_ARGS}, "its model is no dict of tensors"),
    ],
)
def test_a_file_of_something_else(no_process, content, message):
    torch.save(content, "other.pt")
    with pytest.raises(CheckpointError, match=message):
        import_model("other.pt", Path("ours"))


def test_a_tensor_that_does_not_fit_is_named_in_the_files_words(no_process):
    model = shaken(BookGPT(*SHAPE))
    state = model.state_dict()
    state["trf_blocks.1.att.W_key.weight"] = torch.zeros(24, 23)
    torch.save(state, "m.pth")
    with pytest.raises(CheckpointError, match=r"W_key.weight has shape \(24, 23\), its config asks for \(24, 24\)"):
        import_model("m.pth", Path("ours"), n_head=3)
    state = model.state_dict() | {"trf_blocks.0.att.W_extra.weight": torch.zeros(3)}
    torch.save(state, "m.pth")
    with pytest.raises(CheckpointError, match=r"has a tensor trf_blocks.0.att.W_extra.weight of shape \(3,\)"):
        import_model("m.pth", Path("ours"), n_head=3)
    state = model.state_dict()
    del state["trf_blocks.1.norm2.shift"]
    torch.save(state, "m.pth")
    with pytest.raises(CheckpointError, match=r"lacks the tensor trf_blocks.1.norm2.shift of shape \(24,\)"):
        import_model("m.pth", Path("ours"), n_head=3)


def test_a_path_that_is_not_there():
    with pytest.raises(CheckpointError, match=r"nowhere.pt is not there; check the path"):
        import_model("nowhere.pt", Path("ours"))
    Path("notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"notes.txt is no model file that is known"):
        import_model("notes.txt", Path("ours"))
    Path("empty").mkdir()
    with pytest.raises(CheckpointError, match="empty holds no model"):
        import_model("empty", Path("ours"))


def test_a_file_that_would_take_all_time_is_refused(no_process, monkeypatch):
    """In this process, where the limit can be lowered: to count to a million takes seconds."""
    monkeypatch.setattr(unpickle, "MOST_VALUES", 1000)
    value = {"a": 1}
    for _ in range(60):
        value = {"left": value, "right": value}
    torch.save(value, "broken.pt")
    with pytest.raises(SystemExit, match="it holds more than 1,000 values"):
        import_model("broken.pt", Path("ours"))


def test_a_file_that_would_take_all_memory_is_refused():
    torch.save({"transformer.wte.weight": torch.zeros(1).expand(10**10)}, "broken.pt")
    with pytest.raises(CheckpointError, match="its tensors are larger than the file itself"):
        import_model("broken.pt", Path("ours"))


def test_a_bare_state_dict_of_nanogpt_is_not_taken_for_mingpts(no_process):
    """The names are the same, the activation is another."""
    model = shaken(MinimalGPT(*SHAPE))
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(".attn.bias")}
    torch.save(state, "m.pth")
    with pytest.raises(CheckpointError, match="has the weights of a nanoGPT model but not its shape; pass the ckpt.pt"):
        import_model("m.pth", Path("ours"), n_head=3)


def test_what_only_ends_like_a_mask_is_no_mask(no_process):
    content = nanogpt_content(shaken(MinimalGPT(*SHAPE)).state_dict())
    content["model"]["transformer.h.7.attn.bias"] = torch.ones(1, 1, 19, 19)
    torch.save(content, "ckpt.pt")
    with pytest.raises(CheckpointError, match="has a tensor transformer.h.7.attn.bias of shape"):
        import_model("ckpt.pt", Path("ours"))


def test_a_file_that_pretends_to_have_very_many_blocks_is_refused_before_they_cost_anything(no_process):
    state = shaken(BookGPT(*SHAPE)).state_dict()
    torch.save(state | {"trf_blocks.99999999.norm1.scale": torch.zeros(24)}, "m.pth")
    with pytest.raises(CheckpointError, match=r"m.pth lacks tensors: it has \d+, too few for the 100,000,000 layers"):
        import_model("m.pth", Path("ours"), n_head=3)


def test_tensors_that_hold_no_plain_numbers_are_no_weights(no_process):
    state = shaken(BookGPT(*SHAPE)).state_dict()
    for odd in (torch.empty(61, 24, device="meta"), torch.zeros(61, 24).to_sparse()):
        torch.save(state | {"tok_emb.weight": odd}, "m.pth")
        with pytest.raises(CheckpointError, match="is of no known school"):
            import_model("m.pth", Path("ours"), n_head=3)
