import pytest

from glassgpt.config import DEFAULT_PRESET, PRESETS, build_config
from glassgpt.config.schema import FIELDS

# n_layer, n_head, n_embd, context_length, vocab_size (0: the tokenizer's), dropout
SHAPES = {
    "gpt2": (12, 12, 768, 1024, 50257, 0.0),
    "gpt2-medium": (24, 16, 1024, 1024, 50257, 0.0),
    "gpt2-large": (36, 20, 1280, 1024, 50257, 0.0),
    "gpt2-xl": (48, 25, 1600, 1024, 50257, 0.0),
    "gpt3-175b": (96, 96, 12288, 2048, 50257, 0.0),
    "baby": (6, 6, 384, 256, 0, 0.2),
    "gpt-384": (12, 12, 384, 256, 0, 0.1),
    "tutorial": (6, 6, 384, 256, 0, 0.2),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_valid_run(preset):
    config = build_config(preset=preset)
    assert config.preset == preset
    assert PRESETS[preset].keys() <= FIELDS.keys()
    assert PRESETS[preset].items() <= config.flat().items()  # nothing of it had to give way
    assert bool(config.train.max_steps) != bool(config.train.minutes)
    for flags in ({"max_steps": 3}, {"minutes": 0.5}, {"batch_size": 1}, {"n_layer": 1}, {"tokenizer": "byte"}):
        build_config(preset=preset, flags=flags)


@pytest.mark.parametrize(("preset", "shape"), SHAPES.items())
def test_the_shapes_of_the_literature(preset, shape):
    model = build_config(preset=preset).model
    assert (
        model.n_layer, model.n_head, model.n_embd, model.context_length, model.vocab_size, model.dropout
    ) == shape  # fmt: skip
    assert model.architecture == "gpt2" and model.activation == "gelu_tanh" and model.norm_eps == 1e-5
    assert model.tie_embeddings and model.mlp_width == 4 * model.n_embd


@pytest.mark.parametrize("preset", [name for name in SHAPES if name.startswith("gpt") and name != "gpt-384"])
def test_the_published_ones_have_biases_and_gpt2s_tokens(preset):
    config = build_config(preset=preset)
    assert config.model.bias and config.model.qkv_bias and config.data.tokenizer == "gpt2"


def test_tutorial_is_the_classic_small_recipe():
    config = build_config(preset="tutorial")
    assert config.data.tokenizer == "char"
    train = config.train
    assert (train.optimizer, train.learning_rate, train.batch_size, train.max_steps) == ("adamw", 3e-4, 32, 5000)
    # As torch ships AdamW, one learning rate throughout, nothing clipped.
    assert (train.schedule, train.warmup_steps, train.beta1, train.beta2) == ("constant", 0, 0.9, 0.999)
    assert (train.weight_decay, train.grad_clip) == (0.01, 0.0)


def test_the_default_run_ends_within_four_minutes_and_needs_no_network():
    config = build_config()
    assert 0 < config.train.minutes < 4
    assert config.data.data == ("python",) and config.data.tokenizer in ("char", "byte", "bpe")


def test_the_help_describes_every_preset_and_shows_what_holds_without_one():
    from glassgpt.cli.flags import _default
    from glassgpt.config.presets import PURPOSES

    named = [name.strip() for names in PURPOSES for name in names.split(",")]
    assert sorted(named) == sorted(PRESETS) and named[0] == DEFAULT_PRESET
    assert (_default("n_embd"), _default("schedule"), _default("seed"), _default("bias")) == (128, "wsd", 1337, "on")
