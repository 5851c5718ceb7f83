"""Folders of transformers go in and come out as they were."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as LibraryTokenizer

from glassgpt.checkpoint import load_checkpoint, load_model
from glassgpt.errors import CheckpointError, ConfigError, TokenizerError
from glassgpt.formats import export_model, import_model
from glassgpt.tokenizer import END_OF_TEXT, load_tokenizer

from .conftest import TEXT, hf_gpt2, hf_qwen3

TOKENS = torch.arange(17).remainder(61)[None] * 3 % 61


def saved(model, folder="theirs", **more) -> Path:
    model.save_pretrained(folder, **more)
    return Path(folder)


def tensors_of(folder: Path):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def assert_same_tensors(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]), name


def edit(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


MODELS = {
    "gpt2": lambda: hf_gpt2(),
    "gpt2, untied": lambda: hf_gpt2(tie_word_embeddings=False),
    "gpt2, exact gelu": lambda: hf_gpt2(activation_function="gelu", layer_norm_epsilon=1e-3),
    "gpt2, relu": lambda: hf_gpt2(activation_function="relu"),
    "gpt2, default width": lambda: hf_gpt2(n_inner=None),
    "gpt2, half": lambda: hf_gpt2().half(),
    "qwen3": lambda: hf_qwen3(),
    "qwen3, tied": lambda: hf_qwen3(tie_word_embeddings=True, rms_norm_eps=1e-3),
    "qwen3, bfloat16": lambda: hf_qwen3().bfloat16(),
}


@pytest.mark.parametrize("name", MODELS)
def test_import_then_export_is_bitwise_the_same(name):
    theirs = MODELS[name]()
    folder = saved(theirs)
    import_model("theirs", Path("ours"))
    export_model(Path("ours"), Path("again"), to="huggingface")
    assert_same_tensors(tensors_of(Path("again")), tensors_of(folder))
    with torch.inference_mode():
        first, again = (
            transformers.AutoModelForCausalLM.from_pretrained(name, dtype="auto").eval() for name in ("theirs", "again")
        )
        assert first.dtype == again.dtype == theirs.dtype
        assert torch.equal(again(TOKENS).logits, first(TOKENS).logits)


@pytest.mark.parametrize("name", ["gpt2", "gpt2, untied", "gpt2, exact gelu", "gpt2, relu", "qwen3", "qwen3, tied"])
def test_what_was_imported_computes_what_it_computed(name):
    theirs = MODELS[name]()
    saved(theirs)
    ours = load_model(import_model("theirs", Path("ours")))
    with torch.inference_mode():
        expected = theirs(TOKENS).logits
        assert (ours(TOKENS) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("make", [hf_gpt2, hf_qwen3])
def test_shards_and_names_without_their_prefix(make):
    theirs = make()
    whole = tensors_of(saved(theirs))
    saved(theirs, "shards", max_shard_size="20KB")
    assert len(list(Path("shards").glob("*.safetensors"))) > 2
    import_model("shards", Path("from-shards"))
    prefix = "transformer." if make is hf_gpt2 else "model."
    bare = {name.removeprefix(prefix): tensor for name, tensor in whole.items()}
    shutil.copytree("theirs", "bare")
    save_file(bare, "bare/model.safetensors")
    import_model("bare", Path("from-bare"))
    for folder in ("from-shards", "from-bare"):
        export_model(Path(folder), Path(folder + "-again"), to="huggingface")
        assert_same_tensors(tensors_of(Path(folder + "-again")), whole)


def test_masks_and_a_second_copy_of_the_embedding_are_no_weights():
    whole = tensors_of(saved(hf_gpt2()))

    def as_older_files_are(tensors):
        for layer in range(2):
            tensors[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 19, 19).tril()
            tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()

    edit(Path("theirs"), as_older_files_are)
    import_model("theirs", Path("ours"))
    export_model(Path("ours"), Path("again"), to="huggingface")
    assert_same_tensors(tensors_of(Path("again")), whole)


def wider_embedding(tensors):
    tensors["transformer.wte.weight"] = torch.zeros(67, 24)


def not_transposed(tensors):
    tensors["transformer.h.1.attn.c_attn.weight"] = tensors["transformer.h.1.attn.c_attn.weight"].T.contiguous()


DAMAGE = {
    "lacks the tensor transformer.h.1.ln_2.bias of shape (24,)": lambda t: t.pop("transformer.h.1.ln_2.bias"),
    "tensor transformer.wte.weight has shape (67, 24), its config asks for (61, 24)": wider_embedding,
    "tensor transformer.h.1.attn.c_attn.weight has shape (72, 24), its config asks for (24, 72)": not_transposed,
    "has a tensor transformer.h.2.ln_1.bias of shape (24,) that its config has no place for": lambda t: t.update(
        {"transformer.h.2.ln_1.bias": torch.ones(24)}
    ),
    "a.weight of shape (1,) that its config has no place for, and 1 more": lambda t: t.update(
        {"a.weight": torch.ones(1), "b.weight": torch.ones(1)}
    ),
    "lm_head.weight of shape (61, 24) differs from transformer.wte.weight": lambda t: t.update(
        {"lm_head.weight": torch.ones(61, 24)}
    ),
    "tensor transformer.h.0.ln_1.bias is of type int64; weights have to be float16 or wider": lambda t: t.update(
        {"transformer.h.0.ln_1.bias": torch.ones(24, dtype=torch.int64)}
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_tensor_that_does_not_fit_is_named(message):
    saved(hf_gpt2())
    edit(Path("theirs"), DAMAGE[message])
    with pytest.raises(CheckpointError) as caught:
        import_model("theirs", Path("ours"))
    assert message in str(caught.value) and not Path("ours").exists()


CONFIGS = {
    "lacks 'n_layer'": {"n_layer": None},
    "model_type is 'llama'; here are known: gpt2, qwen3": {"model_type": "llama"},
    "activation_function 'swish' is none of": {"activation_function": "swish"},
    "scale_attn_by_inverse_layer_idx is True; the models here compute with False": {
        "scale_attn_by_inverse_layer_idx": True
    },
    "n_head is '3'; it has to be a whole number": {"n_head": "3"},
    "n_embd 24 does not divide into n_head 5": {"n_head": 5},
    "its config asks for (61, 32)": {"n_embd": 32, "n_head": 4},
    "model_type is ['gpt2']; here are known": {"model_type": ["gpt2"]},
    "activation_function ['gelu'] is none of": {"activation_function": ["gelu"]},
    "it has 28, too few for the 1,000,000 layers that its config asks for": {"n_layer": 1_000_000},
    "make tensors that no machine can hold": {"vocab_size": 2**31 - 1, "n_embd": 2**31 - 2, "n_head": 1},
    "n_layer is -2; it has to be at least 1": {"n_layer": -2},
}


@pytest.mark.parametrize("message", CONFIGS)
def test_a_config_that_does_not_fit_is_refused(message):
    folder = saved(hf_gpt2())
    edit_config(folder, **CONFIGS[message])
    if CONFIGS[message] == {"n_layer": None}:
        config = json.loads((folder / "config.json").read_text())
        del config["n_layer"]
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        import_model("theirs", Path("ours"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


QWEN_CONFIGS = {
    "rope_type 'yarn' is not known here; only": {"rope_scaling": {"type": "yarn", "factor": 4.0}},
    "rope_parameters sets full_attention, which is not known here": {"rope_parameters": {"full_attention": {}}},
    "partial_rotary_factor is 0.5": {"partial_rotary_factor": 0.5},
    "rope_type 'yarn' is not known here": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
    "attention_bias is True": {"attention_bias": True},
    "use_sliding_window is True": {"use_sliding_window": True},
}


@pytest.mark.parametrize("message", QWEN_CONFIGS)
def test_a_qwen3_that_computes_otherwise_is_refused(message):
    edit_config(saved(hf_qwen3()), **QWEN_CONFIGS[message])
    with pytest.raises(CheckpointError, match=message):
        import_model("theirs", Path("ours"))


def test_files_that_are_damaged_or_missing():
    folder = saved(hf_gpt2())
    content = (folder / "model.safetensors").read_bytes()
    for size in (0, 7, 900, len(content) - 1):
        (folder / "model.safetensors").write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="theirs/model.safetensors cannot be read"):
            import_model("theirs", Path("ours"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has neither model.safetensors nor model.safetensors.index.json; save"):
        import_model("theirs", Path("ours"))
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="it has weights as a pickle only"):
        import_model("theirs", Path("ours"))
    saved(hf_gpt2(), "shards", max_shard_size="20KB")
    next(Path("shards").glob("model-00002*")).unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-.* is missing"):
        import_model("shards", Path("ours"))
    index = Path("shards/model.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": {"wte.weight": "../theirs/model.safetensors"}}))
    with pytest.raises(CheckpointError, match="lies outside the folder"):
        import_model("shards", Path("ours"))
    assert not Path("ours").exists()


def test_nothing_is_overwritten():
    saved(hf_gpt2())
    import_model("theirs", Path("ours"))
    for _ in range(2):
        with pytest.raises(ConfigError, match="ours is already there, and nothing is overwritten"):
            import_model("theirs", Path("ours"))
        with pytest.raises(ConfigError, match="theirs is already there"):
            export_model(Path("ours"), Path("theirs"), to="huggingface")


def test_each_side_says_what_the_others_folder_is():
    saved(hf_gpt2())
    import_model("theirs", Path("ours"))
    with pytest.raises(CheckpointError, match="ours is a checkpoint of glassgpt already"):
        import_model("ours", Path("more"))
    with pytest.raises(CheckpointError, match="theirs is a Hugging Face folder; bring it in first: glassgpt import"):
        load_checkpoint(Path("theirs"))
    with pytest.raises(ConfigError, match="there is no format 'tensorflow'; there are: huggingface"):
        export_model(Path("ours"), Path("more"), to="tensorflow")


# Tokenizers


def test_a_tokenizer_travels(bpe_file):
    saved(hf_gpt2(vocab_size=280))
    shutil.copy(bpe_file, "theirs/tokenizer.json")
    checkpoint = import_model("theirs", Path("ours"))
    assert checkpoint.tokenizer().to_json() == bpe_file.read_text(encoding="utf-8")
    export_model(Path("ours"), Path("again"), to="huggingface")
    opened = transformers.AutoTokenizer.from_pretrained("again")
    ours = checkpoint.tokenizer()
    assert opened.encode(TEXT) == ours.encode(TEXT) and opened.decode(ours.encode(TEXT)) == TEXT
    assert opened.eos_token_id == ours.end_of_text and opened.model_max_length == 19


def test_the_older_pair_of_vocabulary_files(bpe_file):
    saved(hf_gpt2(vocab_size=280))
    document = json.loads(bpe_file.read_text(encoding="utf-8"))
    Path("theirs/vocab.json").write_text(json.dumps(document["model"]["vocab"]), encoding="utf-8")
    merges = "\n".join(["#version: 0.2", *document["model"]["merges"]]) + "\n"
    Path("theirs/merges.txt").write_text(merges, encoding="utf-8")
    ours = import_model("theirs", Path("ours")).tokenizer()
    assert ours.to_json() == load_tokenizer(bpe_file).to_json() and ours.end_of_text is not None
    Path("theirs/merges.txt").write_text("one two three\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match="no vocabulary of GPT-2's kind"):
        import_model("theirs", Path("more"))


def test_a_tokenizer_that_is_larger_than_the_model_is_refused(bpe_file):
    saved(hf_gpt2())
    shutil.copy(bpe_file, "theirs/tokenizer.json")
    with pytest.raises(CheckpointError, match=r"its tokenizer has \d+ tokens, its model only 61"):
        import_model("theirs", Path("ours"))


def test_without_a_tokenizer_it_goes_in_and_out():
    saved(hf_gpt2())
    checkpoint = import_model("theirs", Path("ours"))
    with pytest.raises(CheckpointError, match="ours came without a tokenizer; say which one with --tokenizer"):
        checkpoint.tokenizer()
    export_model(Path("ours"), Path("again"), to="huggingface")
    assert not Path("again/tokenizer.json").exists()
    config = json.loads(Path("again/config.json").read_text())
    assert config["eos_token_id"] == 50256  # as the folder said, which knows better than we do


def qwen_tokenizer() -> LibraryTokenizer:
    """Built as Qwen's is: NFC, its own splitting, added tokens that are special and some that are not."""
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

    made = LibraryTokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    pattern = Regex(
        r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"""
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([AddedToken(END_OF_TEXT, special=True), AddedToken("<|im_start|>", special=True)])
    made.add_tokens([AddedToken("<think>", special=False)])
    return made


def test_qwens_kind_of_tokenizer_travels_as_it_was_published():
    theirs = qwen_tokenizer()
    saved(hf_qwen3(vocab_size=400))
    theirs.save("theirs/tokenizer.json")
    ours = import_model("theirs", Path("ours")).tokenizer()
    text = "it's 1234 e\u0301 <think>sand\n\n  ünd"
    assert ours.kind == "published" and ours.encode(text) == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == text.replace("e\u0301", "é")
    assert ours.end_of_text == theirs.token_to_id(END_OF_TEXT)
    assert ours.end_of_text not in ours.encode(f"a{END_OF_TEXT}b")
    export_model(Path("ours"), Path("again"), to="huggingface")
    assert transformers.AutoTokenizer.from_pretrained("again").encode(text) == theirs.encode(text).ids
    assert load_tokenizer(Path("again/tokenizer.json")).to_json() == ours.to_json()


def test_post_norm_cannot_be_written():
    from glassgpt.checkpoint import save_checkpoint
    from glassgpt.config import GPTConfig
    from glassgpt.model import build_model

    config = GPTConfig(
        architecture="textbook", norm_position="post", vocab_size=61, context_length=19, n_layer=2, n_head=3, n_embd=24
    )
    save_checkpoint(
        Path("post"), config=config, weights=dict(build_model(config, seed=1).named_parameters()), state={"step": 0}
    )
    with pytest.raises(ConfigError, match="GPT-2's format knows neither norm_position post nor residual false"):
        export_model(Path("post"), Path("out"), to="huggingface")
    assert not Path("out").exists()


def test_what_the_folder_says_of_its_use_is_written_back():
    """Special ids, how it generates, and the tokenizer's settings with their chat template."""
    saved(hf_qwen3(vocab_size=400, eos_token_id=7, bos_token_id=None, pad_token_id=3))
    qwen_tokenizer().save("theirs/tokenizer.json")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_start|>",
        "chat_template": "{{ messages }}",
    }
    Path("theirs/tokenizer_config.json").write_text(json.dumps(settings))
    generation = {"eos_token_id": [7, 8], "temperature": 0.25, "do_sample": True}
    Path("theirs/generation_config.json").write_text(json.dumps(generation))
    import_model("theirs", Path("ours"))
    export_model(Path("ours"), Path("again"), to="huggingface")
    config = json.loads(Path("again/config.json").read_text())
    assert (config["eos_token_id"], config["bos_token_id"], config["pad_token_id"]) == (7, None, 3)
    assert json.loads(Path("again/generation_config.json").read_text()) == generation
    assert json.loads(Path("again/tokenizer_config.json").read_text()) == settings


def test_the_pair_of_vocabulary_files_is_gpt2s_only(bpe_file):
    saved(hf_qwen3(vocab_size=300))
    document = json.loads(bpe_file.read_text(encoding="utf-8"))
    Path("theirs/vocab.json").write_text(json.dumps(document["model"]["vocab"]), encoding="utf-8")
    Path("theirs/merges.txt").write_text("\n".join(document["model"]["merges"]), encoding="utf-8")
    with pytest.raises(TokenizerError, match="which do not say how its kind of model splits text"):
        import_model("theirs", Path("ours"))


def test_one_whole_file_comes_before_an_index_that_was_left_behind():
    whole = tensors_of(saved(hf_gpt2()))
    index = {"weight_map": dict.fromkeys(whole, "model-00001-of-00002.safetensors")}
    Path("theirs/model.safetensors.index.json").write_text(json.dumps(index))
    import_model("theirs", Path("ours"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_pipe_in_the_place_of_a_shard_is_not_waited_for():
    saved(hf_gpt2(), "shards", max_shard_size="20KB")
    shard = next(Path("shards").glob("model-00002*"))
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(CheckpointError, match="model-00002-of-.* is missing"):
        import_model("shards", Path("ours"))
