"""Models trained here, opened by transformers with no code of ours."""

import json
from pathlib import Path

import pytest
import torch
import transformers

import glassgpt
from glassgpt.formats import export_model, import_model
from glassgpt.tokenizer import END_OF_TEXT

from .conftest import TEXT

TINY = {
    "context_length": 16, "n_layer": 2, "n_head": 2, "n_embd": 16, "batch_size": 4, "max_steps": 12, "warmup_steps": 2,
    "eval_every": 6, "save_every": 6, "sample_every": 12, "precision": "float32", "compile": "off", "threads": 1,
}  # fmt: skip


def trained(tokenizer, architecture, folder=False, **more):
    """A run on one text, or on a folder of texts, whose vocabulary then has an end of text."""
    Path("texts").mkdir()
    for number in range(12):
        Path(f"texts/{number}.txt").write_text(TEXT + str(number), encoding="utf-8")
    source = "texts" if folder else "texts/3.txt"
    sizes = {"vocab_size": 270} if tokenizer == "bpe" else {}
    flags = TINY | {"data": (source,), "tokenizer": tokenizer, "architecture": architecture} | sizes | more
    return glassgpt.train_run(glassgpt.build_config(flags=flags), out="run")


@pytest.mark.parametrize("architecture", ["gpt2", "modern", "textbook"])
@pytest.mark.parametrize(("tokenizer", "folder"), [("char", False), ("char", True), ("byte", True), ("bpe", True)])
def test_a_run_opens_in_transformers(tokenizer, folder, architecture):
    run = trained(tokenizer, architecture, folder)
    export_model(run.folder, Path("out"), to="huggingface")
    engine = glassgpt.load_run(run.folder)
    model = transformers.AutoModelForCausalLM.from_pretrained("out").eval()
    theirs = transformers.AutoTokenizer.from_pretrained("out")
    prompt = "Glass is made"
    ids = engine.tokenizer.encode(prompt)
    assert theirs.encode(prompt) == ids and theirs.decode(ids) == prompt
    assert theirs.eos_token_id == engine.tokenizer.end_of_text
    assert model.config.eos_token_id == engine.tokenizer.end_of_text
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    assert torch.allclose(logits, engine.logits(prompt), atol=1e-5)
    (written,) = transformers.pipeline("text-generation", model="out")(prompt, max_new_tokens=3, do_sample=False)
    assert written["generated_text"] == prompt + engine.generate(prompt, max_new_tokens=3, temperature=0)


@pytest.mark.parametrize("settings", [{"bias": False}, {"qkv_bias": False}, {"tie_embeddings": False}, {"n_inner": 40}])
def test_every_gpt2_that_can_be_configured_can_be_written(settings):
    run = trained("char", "gpt2", **settings)
    export_model(run.folder, Path("out"), to="huggingface")
    engine = glassgpt.load_run(run.folder)
    model = transformers.AutoModelForCausalLM.from_pretrained("out").eval()
    with torch.inference_mode():
        logits = model(torch.tensor([engine.tokenizer.encode("Glass")])).logits[0]
    assert torch.allclose(logits, engine.logits("Glass"), atol=1e-5)


def test_the_folder_is_whole_and_its_card_has_the_figures():
    run = trained("bpe", "gpt2", folder=True)
    export_model(run.folder, Path("mine"), to="huggingface")
    files = {file.name for file in Path("mine").iterdir()}
    assert files == {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    card = Path("mine/README.md").read_text(encoding="utf-8")
    result = next(line for line in run.metrics() if "val_loss" in line and line["step"] == run.best()["step"])
    assert card.startswith("---\nlibrary_name: transformers\n") and "# mine\n" in card
    for figure in (
        f"{result['val_loss']:.4f}",
        f"{result['bits_per_byte']:.4f}",
        f"tokens in {result['step']} steps",
    ):
        assert figure in card
    generation = json.loads(Path("mine/generation_config.json").read_text())
    assert generation["eos_token_id"] == glassgpt.load_run(run.folder).tokenizer.end_of_text and generation["do_sample"]


def test_out_and_in_again_is_the_same_model():
    run = trained("bpe", "modern", folder=True)
    export_model(run.folder, Path("out"), to="huggingface")
    import_model("out", Path("back"))
    first, again = glassgpt.load_run(run.folder), glassgpt.load_run("back")
    assert torch.equal(first.logits("Glass is"), again.logits("Glass is"))
    assert first.generate("Glass", max_new_tokens=20, seed=3) == again.generate("Glass", max_new_tokens=20, seed=3)
    assert first.tokenizer.to_json() == again.tokenizer.to_json() and END_OF_TEXT in again.tokenizer.to_json()


def test_figures_that_are_not_whole_are_left_out_of_the_card():
    run = trained("char", "gpt2")
    lines = [{name: figure for name, figure in line.items() if name != "bits_per_byte"} for line in run.metrics()]
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    export_model(run.folder, Path("out"), to="huggingface")
    assert "validation loss" not in Path("out/README.md").read_text(encoding="utf-8")
