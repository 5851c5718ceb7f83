"""The settings themselves: which there are, what each may be, and which do not go together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.config import DataConfig, GPTConfig, MachineConfig, TrainConfig, build_config
from glassgpt.config.schema import FIELDS, SECTION_OF, SECTIONS
from glassgpt.errors import ConfigError

# A new knob is a deliberate change: it is written down here too. Well under 60 in all.
ALL_FIELDS = {
    "model": "architecture vocab_size context_length n_layer n_head n_kv_head n_embd head_dim n_inner dropout bias qkv_bias "
    "tie_embeddings activation norm_eps rope_theta n_gram n_gram_rows norm_position "
    "residual",
    "data": "data tokenizer text_field task",
    "train": "seed max_steps minutes batch_size micro_batch_size optimizer learning_rate matrix_learning_rate momentum "
    "warmup_steps schedule decay_to weight_decay beta1 beta2 grad_clip eval_every save_every log_every sample_every "
    "keep_checkpoints gradient_checkpointing on_nonfinite on_spike",
    "finetune": "from_ lora lora_alpha lora_on",
    "machine": "device precision compile threads replicas",
}

# For every number the values just outside what it may be, and those just inside.
RANGES = {
    "vocab_size": ([-1], [0, 1]),
    "context_length": ([0, -4], [1]),
    "n_layer": ([0], [1]),
    "n_head": ([0], [1]),
    "n_kv_head": ([-1], [0]),
    "n_embd": ([0], [12]),
    "head_dim": ([-1], [0]),
    "n_inner": ([-1], [0, 1]),
    "dropout": ([-0.1, 1.0], [0.0, 0.99]),
    "norm_eps": ([0.0, -1e-5], [1e-12]),
    "rope_theta": ([0.0], [0.5]),
    "n_gram": ([1, 0], [2]),
    "n_gram_rows": ([0], [1]),
    "seed": ([-1, 2**63], [0, 2**63 - 1]),
    "max_steps": ([-1], [1]),
    "minutes": ([-1.0, 10_000_001.0], [0.0]),
    "batch_size": ([0], [1]),
    "micro_batch_size": ([-1], [0, 1]),
    "learning_rate": ([0.0, -1.0], [1e-9]),
    "matrix_learning_rate": ([0.0, -1.0], [1e-9]),
    "momentum": ([-0.1, 1.0], [0.0, 0.999]),
    "warmup_steps": ([-1], [0]),
    "decay_to": ([-0.1, 1.1], [0.0, 1.0]),
    "weight_decay": ([-0.1], [0.0]),
    "beta1": ([-0.1, 1.0], [0.0, 0.999]),
    "beta2": ([-0.1, 1.0], [0.0, 0.999]),
    "grad_clip": ([-0.1], [0.0]),
    "eval_every": ([-1], [0]),
    "save_every": ([-1], [0]),
    "log_every": ([0], [1]),
    "sample_every": ([-1], [0]),
    "keep_checkpoints": ([0], [1]),
    "lora": ([-1], [0, 4]),
    "lora_alpha": ([0.0, -1.0], [0.5]),
    "threads": ([-1], [0]),
    "replicas": ([-1], [0]),
}
NEEDED = {"train": {"max_steps": 100}, "finetune": {"from_": "gpt2"}}


def build(name, value):
    section = SECTION_OF[name]
    return SECTIONS[section](**(NEEDED.get(section, {}) | {name: value}))


def message_of(kind, **values):
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    return str(caught.value)


def test_these_are_all_the_settings():
    assert {section: " ".join(f for f in SECTION_OF if SECTION_OF[f] == section) for section in SECTIONS} == ALL_FIELDS
    assert len(FIELDS) == len(SECTION_OF) < 60  # names are unique over all sections


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_says_what_it_means(name):
    doc = FIELDS[name].metadata["doc"]
    assert len(doc) >= 10 and "\n" not in doc
    assert doc[-1] != "." and doc == doc.strip()  # the --help adds the default behind it


def test_every_number_has_its_range_here():
    assert RANGES.keys() == {name for name, field in FIELDS.items() if field.type in (int, float)}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, (outside, _) in RANGES.items() for v in outside])
def test_out_of_range(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} is {value}; it has to be (at least|above|at most|below) -?\d"):
        build(name, value)


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, (_, inside) in RANGES.items() for v in inside])
def test_just_in_range(name, value):
    assert getattr(build(name, value), name) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.type is float])
def test_a_number_is_a_number(name, value):
    with pytest.raises(ConfigError, match=f"^{name} is {value}; it has to be a finite number$"):
        build(name, value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_embd": 100, "n_head": 6}, "n_embd 100 does not divide into n_head 6 equal heads; change one"),
        (
            {"n_kv_head": 3},
            "n_kv_head and head_dim are settings of architecture modern; leave them at 0, or take architecture modern",
        ),
        (
            {"head_dim": 32},
            "n_kv_head and head_dim are settings of architecture modern; leave them at 0, or take architecture modern",
        ),
        (
            {"architecture": "modern", "n_head": 6, "n_embd": 96, "n_kv_head": 4},
            "n_head 6 does not divide into n_kv_head 4 equal groups",
        ),
        (
            {"architecture": "modern", "n_embd": 100, "n_head": 6},
            "n_embd 100 does not divide into n_head 6 equal heads; change one, or set head_dim",
        ),
        (
            {"architecture": "modern", "n_embd": 90, "n_head": 6},
            "a head 15 wide cannot be rotated in pairs; head_dim has to be even",
        ),
        (
            {"norm_position": "post"},
            "norm_position 'post' is only known to architecture textbook; add architecture textbook",
        ),
        ({"residual": False}, "residual False is only known to architecture textbook; add architecture textbook"),
        (
            {"architecture": "modern", "activation": "relu"},
            "activation 'relu' is only known to architecture textbook; add architecture textbook",
        ),
        ({"architecture": "gpt9"}, "architecture 'gpt9' is not one of gpt2, modern, ngram, textbook"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_shapes_that_do_not_fit(values, message):
    assert message_of(GPTConfig, **values) == message


def test_shapes_that_fit():
    GPTConfig(n_kv_head=12, head_dim=64)  # what gpt2 has anyway
    GPTConfig(architecture="modern", n_embd=100, n_head=6, head_dim=32, n_kv_head=3)
    GPTConfig(architecture="textbook", norm_position="post", residual=False, activation="relu")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "neither max_steps nor minutes says how long to train; set one"),
        ({"max_steps": 5, "minutes": 1.0}, "max_steps and minutes both say how long to train; set one"),
        (
            {"max_steps": 5, "batch_size": 7, "micro_batch_size": 2},
            "micro_batch_size 2 does not divide batch_size 7; change one",
        ),
        (
            {"minutes": 1.0, "warmup_steps": 9},
            "warmup_steps is 9; under minutes with schedule cosine at least 10, "
            "since the speed is measured meanwhile; or 0: chosen by the time",
        ),
        ({"max_steps": 5, "optimizer": "sgd"}, "optimizer 'sgd' is not one of adamw, muon"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_training_that_does_not_fit(values, message):
    assert message_of(TrainConfig, **values) == message


def test_data_that_does_not_fit():
    assert message_of(DataConfig, data=()) == "data is empty; name at least one file, folder or built-in corpus"
    for values in ({"data": ("a", "\udcff.txt")}, {"data": ("a",), "tokenizer": "\udcff.txt"}):
        assert message_of(DataConfig, **values) == (
            r"'\udcff.txt' is not valid Unicode, and no config.toml could hold it; rename the file"
        )


def test_machine_that_does_not_fit():
    assert message_of(MachineConfig, compile="maybe") == "compile 'maybe' is not one of auto, on, off"


def test_derived_widths():
    config = GPTConfig(n_head=12, n_embd=768)
    assert (config.kv_heads, config.head_width, config.mlp_width) == (12, 64, 3072)
    config = GPTConfig(architecture="modern", n_head=6, n_embd=90, n_kv_head=2, head_dim=20)
    assert (config.kv_heads, config.head_width, config.mlp_width) == (2, 20, 256)
    assert GPTConfig(architecture="modern", n_head=6, n_embd=96).mlp_width == 256
    assert GPTConfig(n_inner=7).mlp_width == 7


@given(st.integers(1, 5000))
def test_the_gated_width_is_eight_thirds_rounded_up_to_32(half):
    width = GPTConfig(architecture="modern", n_head=1, n_embd=2 * half).mlp_width
    assert width % 32 == 0
    assert 0 <= width - 8 * 2 * half / 3 < 32


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.type is int and name != "seed"])
def test_no_whole_number_is_beyond_anything_there_could_be(name):
    with pytest.raises(ConfigError, match=f"^{name} is 1{'0' * 20}; it has to be at most 2147483647$"):
        build_config(flags={name: 10**20})


def test_changed_values_are_checked_and_the_original_stays():
    config = build_config(preset="baby")
    changed = config.with_values(n_layer=4, max_steps=9, device="cpu")
    assert (changed.model.n_layer, changed.train.max_steps, changed.machine.device) == (4, 9, "cpu")
    assert config.model.n_layer == 6 and config.train.max_steps == 5000
    assert changed.data is config.data and changed.preset == "baby"
    different = {name for name, value in config.flat().items() if changed.flat()[name] != value}
    assert different == {"n_layer", "max_steps", "device"}
    with pytest.raises(ConfigError, match="^n_layer is 0"):
        config.with_values(n_layer=0)
    with pytest.raises(ConfigError, match="^value 'n_layr' is not a setting; did you mean n_layer"):
        config.with_values(n_layr=3)
    with pytest.raises(ConfigError, match="^n_layer is '4'; it has to be a whole number"):
        config.with_values(n_layer="4")


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        build_config().train.max_steps = 3
