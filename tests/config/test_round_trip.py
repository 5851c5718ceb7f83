"""A resolved configuration, written out and read back, is the same configuration."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassgpt.config import PRESETS, RunConfig, build_config, config_text
from glassgpt.config.load import load_config, read_file, why_not_whole
from glassgpt.config.schema import FIELDS, SECTION_OF, field_name, shown_name

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
POSITIVE = st.floats(1e-300, 1e300)


def there_and_back(config: RunConfig, folder: Path) -> RunConfig:
    file = folder / "config.toml"
    file.write_text(config_text(config), encoding="utf-8")
    values, preset, asked, changed, minutes_given = read_file(file)
    assert preset == config.preset and values == config.flat() and asked == config.asked
    assert tuple(changed.items()) == config.changed and minutes_given == config.minutes_given
    assert why_not_whole(file) is None
    assert build_config(file=file) == replace(load_config(file), changed=())  # a run that is begun from it has its own
    return load_config(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("config")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset(preset, folder):
    config = build_config(preset=preset)
    assert there_and_back(config, folder) == config
    settled = config.resolved(vocab_size=65, micro_batch_size=1, minutes=0.0, max_steps=77, device="cpu")
    assert there_and_back(settled, folder) == settled  # as training leaves it: warmup longer than a tenth of the steps
    given = replace(settled, minutes_given=3.1)
    assert there_and_back(given, folder) == given


def test_what_was_changed_on_the_way(folder):
    changed = (("learning_rate", 3e-5), ("device", 'a "\x7f"'), ("gradient_checkpointing", True), ("max_steps", 9))
    config = replace(build_config(), changed=changed)
    assert there_and_back(config, folder) == config


def test_every_setting_stands_there_with_its_meaning(folder):
    text = config_text(build_config())
    for name, field in FIELDS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{shown_name(name)} = ")]
        assert line.endswith(f"# {field.metadata['doc']}")
    tables = tomllib.loads(text)
    assert {
        field_name(name): table for table in tables.keys() - {"preset", "asked"} for name in tables[table]
    } == SECTION_OF


@settings(deadline=None, max_examples=150)
@given(data=st.lists(ANY_TEXT, min_size=1), tokenizer=ANY_TEXT, text_field=ANY_TEXT, device=ANY_TEXT)
@example(
    data=['a "quoted" name', "C:\\new\\table", "trailing\\", "'''", '"""', "tab\tnew\nline\r\n", "a # b", "é日本😀"],
    tokenizer="\x00\x01\x1b\x1f\x7f\x80\x85\x9f", text_field="\u2028\u2029\ufeff", device="\b\f",
)  # fmt: skip
def test_any_text(folder, data, tokenizer, text_field, device):
    flags = {"data": data, "tokenizer": tokenizer, "text_field": text_field, "device": device}
    config = build_config(preset="baby", flags=flags)
    assert config.data.data == tuple(data)
    assert there_and_back(config, folder) == config


@settings(deadline=None, max_examples=100)
@given(
    learning_rate=st.floats(1e-300, 999), norm_eps=POSITIVE, beta2=st.floats(0, 0.999), weight_decay=st.floats(0, 999),
    dropout=st.floats(0, 0.999), decay_to=st.floats(0, 1), minutes=st.floats(5e-324, 1e7), seed=st.integers(0, 2**63 - 1),
    eval_every=st.integers(0, 2**31 - 1), bias=st.booleans(), architecture=st.sampled_from(["gpt2", "textbook"]),
)  # fmt: skip
@example(
    learning_rate=1e-16, norm_eps=1e16, beta2=5e-324, weight_decay=1e-22, dropout=1e-7, decay_to=1.0, minutes=1e7,
    seed=2**63 - 1, eval_every=2**31 - 1, bias=False, architecture="gpt2",
)  # fmt: skip
def test_any_number_to_the_last_bit(folder, **flags):
    config = build_config(preset="baby", flags=flags)
    assert there_and_back(config, folder) == config
