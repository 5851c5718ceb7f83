"""Models of conversations and of labels, in transformers: with no code of ours."""

import json
from pathlib import Path

import pytest
import torch
import transformers

import glassgpt
from glassgpt.checkpoint import find_checkpoint, load_checkpoint
from glassgpt.errors import CheckpointError, ConfigError
from glassgpt.finetune import CHATML, Message
from glassgpt.formats import export_model, import_model
from glassgpt.formats.huggingface import eos_with
from glassgpt.generate import load_chat, load_classifier
from glassgpt.tokenizer import build_tokenizer, load_tokenizer

from .conftest import hf_gpt2, hf_qwen3
from .test_export import TINY

SIZES = TINY | {"tokenizer": "byte", "context_length": 50, "vocab_size": 260}


def train(source, records, **more):
    Path(source).write_text("\n".join(map(json.dumps, records)))
    return glassgpt.train_run(glassgpt.build_config(flags=SIZES | {"data": (source,)} | more), out="run")


def talks():
    return [{"prompt": f"Is {n} a number?", "completion": "Yes."} for n in range(20)]


def moods():
    return [{"text": f"it is {'good' if n % 3 else 'bad'}, {n * 'x'}", "label": n % 3 > 0} for n in range(20)]


@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_classifier_says_the_same_there(architecture, tied):
    train("moods.jsonl", moods(), architecture=architecture, tie_embeddings=tied)
    export_model(Path("run"), Path("out"), to="huggingface")
    ours = load_classifier("run")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained("out").eval()
    assert theirs.config.id2label == {0: "false", 1: "true"}
    tokenizer = transformers.AutoTokenizer.from_pretrained("out")
    texts = ["it is good", "it is bad, xxxxx", "xx"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.allclose(logits.softmax(-1), ours.probabilities(texts), atol=1e-5)
    said = transformers.pipeline("text-classification", model="out")(texts)
    assert [s["label"] for s in said] == [verdict.label for verdict in ours.classify(texts)]
    card = Path("out/README.md").read_text()
    assert "pipeline_tag: text-classification" in card and "of the texts right" in card and "false, true" in card


def test_the_gradients_of_a_classifier_are_theirs():
    """Loss and gradients of one batch, with their own padding and our own rows."""
    from glassgpt.data import Examples, prepare
    from glassgpt.train.loss import chunked_loss

    train("moods.jsonl", moods(), architecture="gpt2")
    export_model(Path("run"), Path("out"), to="huggingface")
    ours, data = load_classifier("run"), prepare(["moods.jsonl"], "data", "byte")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained("out").double().eval()
    batch = Examples(data, "train", 50, seed=1).batch(0, 5)
    labels = batch.targets[batch.targets >= 0]
    lengths = (batch.targets >= 0).int().argmax(dim=1) + 1
    padded = torch.where(torch.arange(batch.tokens.shape[1]) < lengths[:, None], batch.tokens, 256)
    (5 * theirs(input_ids=padded, labels=labels).loss).backward()
    model = ours.model.double()
    chunked_loss(model, batch).backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        other = expected[name if name.startswith("score") else name.replace("body.", "transformer.")].grad
        other = other.T if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else other
        assert torch.allclose(parameter.grad, other, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("system", [True, False])
def test_a_chat_template_asks_there_as_it_does_here(system):
    train("talks.jsonl", talks(), architecture="gpt2")
    export_model(Path("run"), Path("out"), to="huggingface")
    chat = load_chat("run")
    messages = [Message("user", "Is 7 a number?"), Message("assistant", "Yes."), Message("user", "And 8?")]
    messages = [Message("system", "Be brief.")] * system + messages
    theirs = transformers.AutoTokenizer.from_pretrained("out")
    spoken = [message._asdict() for message in messages]
    ids = theirs.apply_chat_template(spoken, add_generation_prompt=True, return_dict=False)
    assert ids == chat.template.prompt(chat.engine.tokenizer, messages)
    model = transformers.AutoModelForCausalLM.from_pretrained("out").eval()
    assert model.generation_config.eos_token_id == chat.template.end_id(chat.engine.tokenizer)


def with_chatml(folder, model):
    """A folder as Qwen's: byte tokens, and two special ones that its template uses."""
    document = json.loads(build_tokenizer("byte", lambda: iter([])).to_json())
    for id, name in ((257, "<|im_start|>"), (258, "<|im_end|>")):
        document["model"]["vocab"][name] = id
        document["added_tokens"].append(document["added_tokens"][0] | {"id": id, "content": name})
    document["pre_tokenizer"]["use_regex"] = False
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (folder / "chat_template.jinja").write_text("{# theirs: <|im_start|> ... <|im_end|> #}")
    return folder


def test_a_model_that_speaks_chatml_speaks_it_here_and_again_there(tmp_path):
    source = with_chatml(tmp_path / "theirs", hf_qwen3(vocab_size=259, max_position_embeddings=60))
    import_model(str(source), Path("mine"))
    assert load_checkpoint(Path("mine")).template == CHATML
    assert load_chat("mine").template.end_id(load_tokenizer(source / "tokenizer.json")) == 258
    export_model(Path("mine"), Path("back"), to="huggingface")
    assert Path("back/chat_template.jinja").read_text() == "{# theirs: <|im_start|> ... <|im_end|> #}"
    # Taught further, it still speaks so, and what came with it is still there.
    records = "\n".join(map(json.dumps, talks()))
    Path("talks.jsonl").write_text(records)
    going_on = {name: TINY[name] for name in TINY if not name.startswith(("n_", "context"))}
    config = glassgpt.build_config(flags=going_on | {"data": ("talks.jsonl",), "from_": "mine"})
    glassgpt.train_run(config, out="taught")
    checkpoint = load_checkpoint(find_checkpoint(Path("taught")))
    assert checkpoint.template == CHATML
    export_model(Path("taught"), Path("again"), to="huggingface")
    assert Path("again/chat_template.jinja").read_text() == "{# theirs: <|im_start|> ... <|im_end|> #}"
    assert json.loads(Path("again/generation_config.json").read_text())["eos_token_id"] == 258


def test_a_template_that_is_not_known_here_is_replaced_by_the_one_that_was_taught(tmp_path):
    folder = tmp_path / "theirs"
    hf_gpt2(vocab_size=260, n_positions=60).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(build_tokenizer("byte", lambda: iter([])).to_json())
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ 'another' }}"}))
    import_model(str(folder), Path("mine"))
    with pytest.raises(ConfigError, match="mine was not trained on conversations"):
        load_chat("mine")
    Path("talks.jsonl").write_text("\n".join(map(json.dumps, talks())))
    going_on = {name: TINY[name] for name in TINY if not name.startswith(("n_", "context"))}
    glassgpt.train_run(
        glassgpt.build_config(flags=going_on | {"data": ("talks.jsonl",), "from_": "mine"}), out="taught"
    )
    export_model(Path("taught"), Path("out"), to="huggingface")
    assert "### Assistant:" in Path("out/chat_template.jinja").read_text()
    assert "chat_template" not in json.loads(Path("out/tokenizer_config.json").read_text())


def test_what_ends_a_text_still_does_beside_what_ends_an_answer():
    assert eos_with({}, 7) == eos_with({"eos_token_id": 7}, 7) == 7
    assert eos_with({"eos_token_id": 9}, 7) == eos_with({"eos_token_id": [9, 7]}, 7) == [7, 9]


def test_chatmls_tokens_alone_are_no_chat_template(tmp_path):
    source = with_chatml(tmp_path / "theirs", hf_qwen3(vocab_size=259, max_position_embeddings=60))
    (source / "chat_template.jinja").write_text("{{ 'another' }}")
    import_model(str(source), Path("mine"))
    with pytest.raises(ConfigError, match="mine was not trained on conversations"):
        load_chat("mine")


def test_a_classifier_of_an_imported_model_takes_batches_and_long_texts_there(tmp_path):
    """What came with the model said of no padding, and of no length."""
    folder = tmp_path / "theirs"
    hf_gpt2(vocab_size=260, n_positions=60, pad_token_id=None).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(build_tokenizer("byte", lambda: iter([])).to_json())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    import_model(str(folder), Path("mine"))
    Path("moods.jsonl").write_text("\n".join(map(json.dumps, moods())))
    going_on = {name: TINY[name] for name in TINY if not name.startswith(("n_", "context"))}
    glassgpt.train_run(glassgpt.build_config(flags=going_on | {"data": ("moods.jsonl",), "from_": "mine"}), out="run")
    export_model(Path("run"), Path("out"), to="huggingface")
    texts = ["it is good", "it is bad" * 20, "xx"]
    said = transformers.pipeline("text-classification", model="out")(texts, batch_size=3, truncation=True)
    ours = load_classifier("run").probabilities(texts)
    assert [s["score"] for s in said] == pytest.approx([row.max().item() for row in ours], abs=1e-5)
    with pytest.raises(
        CheckpointError, match="out tells labels apart .GPT2ForSequenceClassification., and only models that"
    ):
        import_model("out", Path("back"))


def test_a_published_model_ends_where_it_was_told_to(tmp_path):
    source = with_chatml(tmp_path / "theirs", hf_qwen3(vocab_size=259, max_position_embeddings=60))
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, 77]}))
    import_model(str(source), Path("mine"))
    assert glassgpt.load_run("mine").ends == {256, 77, 258}  # end-of-text, its own, and what ends an answer


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    model = hf_gpt2()
    with torch.no_grad():
        model.transformer.h[1].ln_1.weight[3] = value
    model.save_pretrained(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="theirs: tensor h.1.ln_1.weight holds values that are no finite numbers"):
        import_model(str(tmp_path / "theirs"), Path("mine"))


def test_adapters_of_a_classifier_alone_are_no_model(tmp_path):
    train("talks.jsonl", talks(), architecture="gpt2")
    Path("moods.jsonl").write_text("\n".join(map(json.dumps, moods())))
    going_on = {name: TINY[name] for name in TINY if not name.startswith(("n_", "context"))}
    config = glassgpt.build_config(flags=going_on | {"data": ("moods.jsonl",), "from_": "run", "lora": 2})
    glassgpt.train_run(config, out="moods")
    with pytest.raises(
        ConfigError, match="tells labels apart, which its adapters alone do not; write it with --to hugg"
    ):
        export_model(Path("moods"), Path("out"), to="peft")
    export_model(Path("moods"), Path("whole"), to="huggingface")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained("whole").eval()
    ids = torch.tensor([list(b"it is good")])
    with torch.inference_mode():
        shares = theirs(ids).logits.softmax(-1)
    assert torch.allclose(shares, load_classifier("moods").probabilities(["it is good"]), atol=1e-5)
