"""`import` and `export` as a user meets them."""

import json

import pytest

from ..command import TINY, glassgpt, refused

transformers = pytest.importorskip("transformers")


def toy(folder, **settings):
    sizes = {"vocab_size": 257, "n_positions": 19, "n_layer": 2, "n_head": 3, "n_embd": 24}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes | settings)).save_pretrained(folder / "toy")


def test_in_sample_and_out(folder):
    toy(folder)
    code, out, err = glassgpt(folder, "import", "toy", "--out", "mine")
    assert code == 0, err
    assert "toy: format huggingface, architecture gpt2, tokenizer none" in out
    assert "2 layers, 3 heads, width 24, context 19, vocabulary 257" in out
    assert "glassgpt sample mine --tokenizer" in out
    assert refused(folder, "sample", "mine") == "mine came without a tokenizer; say which one with --tokenizer"
    assert "a char tokenizer is made from a text" in refused(folder, "sample", "mine", "--tokenizer", "char")
    code, out, err = glassgpt(folder, "sample", "mine", "--tokenizer", "byte", "--max-new-tokens", 5, "--prompt", "abc")
    assert code == 0 and out.startswith("abc"), err
    code, out, err = glassgpt(folder, "export", "mine", "--to", "huggingface", "--out", "again")
    assert code == 0 and "model.safetensors" in out, err
    assert json.loads((folder / "again/config.json").read_text())["n_embd"] == 24


def test_a_run_goes_out_with_its_own_tokenizer(folder):
    code, _, err = glassgpt(folder, "train", "song.txt", *TINY, "--max-steps", 3)
    assert code == 0, err
    code, out, err = glassgpt(folder, "export", "--out", "again")
    assert code == 0 and "tokenizer.json" in out, err
    assert "has its own tokenizer; leave --tokenizer out" in refused(folder, "sample", "--tokenizer", "byte")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "toy"], "--out"),
        (["import", "nowhere/", "--out", "x"], "nowhere/ is neither a file or folder that is there nor"),
        (["import", "song.txt", "--out", "x"], "song.txt is no model file that is known"),
        (["import", "toy", "--out", "toy"], "toy is already there, and nothing is overwritten"),
        (["import", "toy", "--out", "x", "--n-head", "7"], "toy says n_head 3; leave --n-head out"),
        (["export", "--out", "x"], "there is no run under runs/ yet"),
        (["export", "toy", "--out", "x"], "toy is a Hugging Face folder; bring it in first: glassgpt import toy --out"),
        (["sample", "toy"], "toy is a Hugging Face folder; bring it in first"),
    ],
)
def test_what_cannot_be_brought_in_or_out_is_one_line(folder, refused_here, arguments, message):
    toy(folder)
    assert message in refused_here(*arguments)
    assert not (folder / "x").exists()
