"""From default, preset, file and flags to one configuration, and every way in which that fails."""

import pytest

from glassgpt.config import DEFAULT_PRESET, PRESETS, MachineConfig, build_config, config_text
from glassgpt.config.names import FOREIGN_NAMES
from glassgpt.config.schema import FIELDS
from glassgpt.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write_file(content: str | bytes):
        path = tmp_path / "run.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def refused(**how) -> str:
    with pytest.raises(ConfigError) as caught:
        build_config(**how)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Precedence.


def test_default_then_preset_then_file_then_flag(write):
    """One setting for each place that can have the last word."""
    file = write('preset = "baby"\n[model]\nn_layer = 3\nn_head = 4\n[train]\nlearning_rate = 0.5\n')
    config = build_config(file=file, flags={"learning_rate": 0.25})
    assert config.preset == "baby"
    assert config.train.weight_decay == FIELDS["weight_decay"].default == 0.1  # default
    assert config.model.n_embd == PRESETS["baby"]["n_embd"] == 384  # preset
    assert config.model.n_layer == 3 != PRESETS["baby"]["n_layer"]  # file
    assert config.train.learning_rate == 0.25  # flag
    assert build_config(file=file, preset="gpt-384").model.dropout == 0.1  # a preset named outside beats the file's


def test_nothing_said_is_the_default_preset():
    assert build_config() == build_config(preset=DEFAULT_PRESET)
    assert build_config().preset == DEFAULT_PRESET


def test_a_flag_beats_a_file_in_every_setting(write):
    file = write('[data]\ndata = ["a", "b"]\n[machine]\ndevice = "cuda:1"\nthreads = 2\n[model]\nbias = false\n')
    config = build_config(preset="baby", file=file, flags={"data": ("c",), "device": "cpu", "threads": 1, "bias": True})
    assert config.data.data == ("c",)
    assert (config.machine.device, config.machine.threads, config.model.bias) == ("cpu", 1, True)
    config = build_config(file=file)
    assert config.data.data == ("a", "b")
    assert (config.machine.device, config.machine.threads, config.model.bias) == ("cuda:1", 2, False)


def test_types_are_brought_to_the_settings_own():
    config = build_config(flags={"learning_rate": 1, "data": "notes", "grad_clip": 0})
    assert config.train.learning_rate == 1.0 and type(config.train.learning_rate) is float
    assert type(config.train.grad_clip) is float
    assert config.data.data == ("notes",)


# One thing takes another's place.


def test_the_higher_level_says_how_long(write):
    by_time, by_steps = write("[train]\nminutes = 7\n"), "mini"
    assert build_config(preset="baby", file=by_time).train.max_steps == 0
    assert build_config(preset="baby", file=by_time).train.minutes == 7.0
    config = build_config(preset="baby", file=by_time, flags={"max_steps": 40})
    assert (config.train.max_steps, config.train.minutes) == (40, 0.0)
    assert build_config(preset=by_steps, flags={"max_steps": 40}).train.minutes == 0.0
    # As a resolved file has it: the one that does not count stands there as 0.
    resolved = write("[train]\nmax_steps = 90\nminutes = 0.0\n")
    config = build_config(file=resolved, flags={"minutes": 2.5})
    assert (config.train.max_steps, config.train.minutes) == (0, 2.5)
    assert build_config(preset="mini", file=resolved).train.max_steps == 90


def test_both_at_one_level_or_neither_is_refused(write):
    both = "max_steps and minutes both say how long to train; set one"
    assert refused(flags={"max_steps": 5, "minutes": 1}) == both
    assert refused(file=write("[train]\nmax_steps = 5\nminutes = 1\n")) == both
    neither = "neither max_steps nor minutes says how long to train; set one"
    assert refused(preset="mini", flags={"minutes": 0}) == neither
    assert refused(preset="baby", flags={"max_steps": 0}) == neither


def test_a_presets_warmup_is_cut_to_fit():
    assert build_config(preset="gpt2").train.warmup_steps == 2000
    assert build_config(preset="gpt2", flags={"max_steps": 300}).train.warmup_steps == 30
    assert build_config(preset="baby", flags={"max_steps": 5000}).train.warmup_steps == 100
    assert build_config(preset="baby", flags={"max_steps": 7}).train.warmup_steps == 0
    assert build_config(flags={"max_steps": 200}).train.warmup_steps == 20  # and so is the default


def test_a_warmup_of_so_many_steps_means_nothing_under_another_time():
    assert build_config(preset="mini").train.warmup_steps == PRESETS["mini"]["warmup_steps"] == 20  # tuned together
    assert build_config(preset="mini", flags={"minutes": 500}).train.warmup_steps == 0  # decided by the speed
    assert build_config(preset="gpt2", flags={"minutes": 500}).train.warmup_steps == 0
    assert build_config(preset="gpt2", flags={"minutes": 500, "warmup_steps": 30}).train.warmup_steps == 30


@pytest.mark.parametrize("length", [{"max_steps": 9000}, {"minutes": 9}])
def test_a_presets_intervals_are_for_its_own_length(length):
    train = build_config(preset="char-cpu", flags={**length, "save_every": 400}).train
    assert (train.eval_every, train.save_every, train.sample_every) == (0, 400, 0)
    assert build_config(preset="char-cpu").train.eval_every == 250


def test_a_warmup_that_was_asked_for_is_left_alone_or_refused(write):
    assert build_config(preset="baby", flags={"max_steps": 30, "warmup_steps": 25}).train.warmup_steps == 25
    file = write("[train]\nwarmup_steps = 25\n")
    assert build_config(preset="baby", file=file, flags={"max_steps": 30}).train.warmup_steps == 25
    message = (
        "warmup_steps is 9; under minutes with schedule linear at least 10, since the speed is measured meanwhile; "
        "or 0: chosen by the time"
    )
    assert refused(flags={"minutes": 5, "warmup_steps": 9, "schedule": "linear"}) == message
    level_at_first = build_config(flags={"minutes": 5, "warmup_steps": 9, "schedule": "wsd"})
    assert level_at_first.train.warmup_steps == 9


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_fixes_what_depends_on_the_machine(preset):
    """Whatever batch_size a flag asks for, the micro batch is what fits it."""
    config = build_config(preset=preset, flags={"batch_size": 7})
    assert config.train.micro_batch_size == 0
    assert config.machine == MachineConfig()


def test_a_micro_batch_that_was_asked_for_is_left_alone_or_refused(write):
    assert build_config(preset="gpt2", flags={"batch_size": 30, "micro_batch_size": 3}).train.micro_batch_size == 3
    message = "micro_batch_size 4 does not divide batch_size 30; change one"
    assert refused(preset="gpt2", flags={"batch_size": 30, "micro_batch_size": 4}) == message
    assert refused(file=write("[train]\nmicro_batch_size = 4\n"), flags={"batch_size": 30}) == message


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("batch", [0, -3])
def test_a_batch_of_nothing_is_refused_whatever_the_preset(preset, batch):
    assert refused(preset=preset, flags={"batch_size": batch}) == f"batch_size is {batch}; it has to be at least 1"


def test_another_tokenizer_has_another_vocabulary(write):
    assert build_config(preset="gpt2").model.vocab_size == 50257
    assert build_config(preset="gpt2", flags={"tokenizer": "char"}).model.vocab_size == 0
    assert build_config(preset="gpt2", flags={"tokenizer": "gpt2"}).model.vocab_size == 50257
    assert build_config(preset="gpt2", flags={"tokenizer": "bpe", "vocab_size": 999}).model.vocab_size == 999
    resolved = write('[model]\nvocab_size = 65\n[data]\ntokenizer = "char"\n')
    assert build_config(file=resolved).model.vocab_size == 65
    assert build_config(file=resolved, flags={"tokenizer": "byte"}).model.vocab_size == 0


def test_a_presets_details_give_way_to_another_shape(monkeypatch):
    monkeypatch.setitem(
        PRESETS, "wide", PRESETS["mini"] | {"n_head": 4, "n_kv_head": 2, "head_dim": 48, "n_embd": 256, "n_inner": 900}
    )

    def details(**flags):
        model = build_config(preset="wide", flags=flags).model
        return model.n_kv_head, model.head_dim, model.n_inner

    assert details() == details(n_layer=3) == (2, 48, 900)
    assert details(n_head=8) == (0, 0, 900)
    assert details(n_embd=192) == (0, 0, 0)
    assert details(architecture="gpt2") == (0, 0, 900)
    assert details(n_head=8, n_kv_head=4) == (4, 0, 900)


def test_what_a_file_says_of_the_shape_is_kept(write):
    """A file is what somebody asked for: a flag overrides it where it says the same thing, and no further."""
    file = write('[model]\narchitecture = "modern"\nn_head = 4\nn_embd = 256\nn_kv_head = 2\nn_inner = 900\n')
    model = build_config(file=file, flags={"n_head": 8}).model
    assert (model.n_head, model.n_kv_head, model.n_inner) == (8, 2, 900)
    message = "n_kv_head and head_dim are settings of architecture modern; leave them at 0, or take architecture modern"
    assert refused(file=file, flags={"architecture": "gpt2"}) == message


# A run's own file, and flags beside it.


@pytest.fixture
def finished(write):
    """The config.toml of a run of which a person chose four settings, and the rest followed."""
    asked = {"data": "a.txt", "tokenizer": "char", "eval_every": 9, "batch_size": 12}
    config = build_config(preset="baby", flags=asked)
    decided = {
        "vocab_size": 65, "micro_batch_size": 4, "max_steps": 70, "warmup_steps": 7, "save_every": 9, "sample_every": 8,
        "device": "cpu", "threads": 2, "precision": "bfloat16", "compile": "off",
    }  # fmt: skip
    return write(config_text(config.resolved(**decided)))


def test_a_runs_file_knows_what_was_asked_for(finished):
    config = build_config(file=finished)
    assert config.asked == ("data", "tokenizer", "batch_size", "eval_every")
    assert build_config(file=finished, flags={"seed": 4}).asked == (
        "data",
        "tokenizer",
        "seed",
        "batch_size",
        "eval_every",
    )
    assert config.with_values(n_layer=3).asked == ("n_layer", "data", "tokenizer", "batch_size", "eval_every")
    assert config.resolved(n_layer=3).asked == config.asked


@pytest.mark.parametrize(
    ("flags", "followers"),
    [
        ({"seed": 5}, {}),
        ({"learning_rate": 0.5}, {}),
        ({"max_steps": 3000}, {"warmup_steps": 100, "save_every": 0, "sample_every": 0}),
        ({"max_steps": 20}, {"warmup_steps": 2, "save_every": 0, "sample_every": 0}),
        ({"minutes": 6.0}, {"max_steps": 0, "warmup_steps": 0, "save_every": 0, "sample_every": 0}),
        ({"batch_size": 30}, {"micro_batch_size": 0}),
        ({"n_layer": 9}, {"micro_batch_size": 0}),
        ({"data": ("b.txt",)}, {"vocab_size": 0}),
        ({"tokenizer": "byte"}, {"vocab_size": 0}),
        ({"device": "cuda"}, {"precision": "auto", "compile": "auto", "threads": 0, "micro_batch_size": 0}),
        ({"max_steps": 3000, "warmup_steps": 1}, {"save_every": 0, "sample_every": 0}),
    ],
)
def test_a_flag_beside_a_runs_file_frees_what_followed_and_nothing_else(finished, flags, followers):
    """What a person asked for stays (eval_every here), what GlassGPT found out for another run does not."""
    before, after = build_config(file=finished).flat(), build_config(file=finished, flags=flags).flat()
    assert {name: value for name, value in after.items() if value != before[name]} == flags | followers


def test_what_a_person_wrote_into_a_file_is_not_freed(write):
    file = write("[train]\nwarmup_steps = 25\neval_every = 5\n[model]\nvocab_size = 700\n")
    config = build_config(file=file, flags={"max_steps": 3000, "data": "b.txt"})
    assert (config.train.warmup_steps, config.train.eval_every, config.model.vocab_size) == (25, 5, 700)


def test_a_whole_file_needs_no_preset_that_is_known(finished):
    finished.write_text(finished.read_text().replace('preset = "baby"', 'preset = "of-another-version"'))
    assert build_config(file=finished).preset == "of-another-version"
    assert build_config(file=finished, flags={"max_steps": 3000}).train.warmup_steps == 100
    text = finished.read_text()
    assert "preset 'of-another-version' is not known" in refused(file=write_without(finished, text, "seed"))


def write_without(path, text, name):
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith(f"{name} = ")))
    return path


def test_what_was_asked_has_to_be_settings(write):
    assert "asked in" in refused(file=write('asked = ["n_layrs"]\n'))
    assert "it has to be a list of names of settings" in refused(file=write("asked = 3\n"))


def test_the_minutes_that_were_given_have_to_be_a_number(write):
    assert "minutes_given: minutes is 'x'; it has to be a finite number" in refused(file=write("minutes_given = 'x'\n"))


def test_what_was_changed_has_to_be_a_table_of_settings(write):
    assert "changed in" in refused(file=write("changed = 3\n"))
    assert "changed 'lr' is not a setting; here it is called learning_rate" in refused(
        file=write("changed = {lr = 1}\n")
    )


@pytest.mark.parametrize(
    ("architecture", "name", "value"),
    [
        ("modern", "bias", True),
        ("modern", "qkv_bias", True),
        ("gpt2", "rope_theta", 5e5),
        ("textbook", "rope_theta", 5e5),
    ],
)
def test_a_setting_that_the_architecture_ignores_is_refused(write, architecture, name, value):
    message = f"architecture {architecture} has no use for {name}; leave {name} out"
    assert refused(preset="mini", flags={"architecture": architecture, name: value}) == message
    file = write(f'[model]\narchitecture = "{architecture}"\n{name} = {str(value).lower()}\n')
    assert refused(file=file) == message
    build_config(preset="mini", flags={"architecture": architecture})
    build_config(preset="mini", flags={"architecture": "modern", "bias": False})


@pytest.mark.parametrize("preset", ["mini", "char-cpu"])
def test_adamw_for_muon_does_not_inherit_a_rate_that_was_for_embeddings_alone(preset):
    train = build_config(preset=preset, flags={"optimizer": "adamw"}).train
    assert train.learning_rate == FIELDS["learning_rate"].default < PRESETS[preset]["learning_rate"]
    assert build_config(preset=preset, flags={"optimizer": "adamw", "learning_rate": 0.5}).train.learning_rate == 0.5
    assert (
        build_config(preset=preset, flags={"optimizer": "muon"}).train.learning_rate == PRESETS[preset]["learning_rate"]
    )


@pytest.mark.parametrize("name", ["matrix_learning_rate", "momentum"])
def test_what_only_muon_knows_is_refused_under_adamw(name):
    message = f"optimizer adamw has no use for {name}; leave {name} out"
    assert refused(preset="gpt2", flags={name: 0.5}) == message
    with pytest.raises(ConfigError, match=message):
        build_config(preset="gpt2").with_values(**{name: 0.5})
    build_config(preset="gpt2", flags={name: 0.5, "optimizer": "muon"})


# Names that nobody knows.


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("n_layr", "; did you mean n_layer?"),
        ("learning_rat", "; did you mean learning_rate?"),
        ("n-layers", "; here it is called n_layer"),
        ("block_size", "; here it is called context_length"),
        ("n_positions", "; here it is called context_length"),
        ("max_iters", "; here it is called max_steps"),
        ("lr", "; here it is called learning_rate"),
        ("LR", "; here it is called learning_rate"),
        ("wd", "; here it is called weight_decay"),
        ("zzz", ""),
    ],
)
def test_an_unknown_setting_gets_a_suggestion(write, wrong, hint):
    assert refused(flags={wrong: 3}) == f"flag {wrong!r} is not a setting{hint}"
    file = write(f"[train]\n{wrong} = 3\n")
    assert refused(file=file) == f"{file}: {wrong!r} is not a setting{hint}"


def test_no_foreign_name_is_ours_and_each_leads_to_one_of_ours():
    assert not FOREIGN_NAMES.keys() & FIELDS.keys()
    assert set(FOREIGN_NAMES.values()) <= FIELDS.keys() | {"out"}
    for theirs in FOREIGN_NAMES:
        assert f"; here it is called {FOREIGN_NAMES[theirs]}" in refused(flags={theirs: 1})


def test_an_unknown_preset(write):
    message = refused(preset="gpt2-larg")
    assert message.startswith(
        "preset 'gpt2-larg' is not known; did you mean gpt2-large?; there are: gpt2, gpt2-medium, "
    )
    assert refused(file=write('preset = "zzz"\n')).startswith("preset 'zzz' is not known; there are: ")
    assert refused(file=write("preset = 3\n")).endswith("run.toml is 3; it has to be text in quotes")


def test_an_unknown_table(write):
    file = write("[trian]\nmax_steps = 3\n")
    assert refused(file=file) == (
        f"{file}: 'trian' is not known; did you mean train?; the tables are model, data, train, finetune, machine"
    )


def test_a_setting_under_the_wrong_table(write):
    file = write("[model]\nmax_steps = 3\n")
    assert refused(file=file) == f"{file}: max_steps stands under [model]; put it under [train]"


def test_a_setting_outside_every_table(write):
    file = write("max_steps = 3\n")
    assert refused(file=file) == f"{file}: max_steps stands outside a table; put it under [train]"
    file = write("max_iters = 3\n")
    assert refused(file=file).startswith(
        f"{file}: 'max_iters' is not known; here it is called max_steps; the tables are"
    )


def test_a_table_that_is_none(write):
    file = write("train = 3\n")
    assert refused(file=file) == f"{file}: train has to be a table: write [train] above its settings"


# Files that are none.


def test_a_byte_order_mark_is_no_mistake(write):
    assert build_config(file=write(b"\xef\xbb\xbf[train]\nseed = 3\n")).train.seed == 3


def test_a_file_that_is_not_toml(write):
    file = write("[train\nmax_steps: 3\n")
    assert refused(file=file).startswith(f"config file {file} is not TOML: ")
    assert refused(file=write("a = " + "1" * 5000)).startswith(f"config file {file} is not TOML: ")


def test_a_file_that_is_not_there(tmp_path):
    assert refused(file=tmp_path / "no.toml") == f"config file {tmp_path / 'no.toml'} is not there; check the path"


def test_a_file_that_is_not_utf8(write):
    file = write(b'[data]\ndata = ["caf\xe9.txt"]\n')
    assert refused(file=file).startswith(f"config file {file} is no text in UTF-8, as a file of settings is")


def test_a_folder_in_the_place_of_a_file(tmp_path):
    assert refused(file=tmp_path) == f"config file {tmp_path} is a folder; of a run it is {tmp_path / 'config.toml'}"


# Values that are none.


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_steps", "5", "max_steps is '5'; it has to be a whole number"),
        ("max_steps", 5.0, "max_steps is 5.0; it has to be a whole number"),
        ("max_steps", True, "max_steps is True; it has to be a whole number"),
        ("learning_rate", "fast", "learning_rate is 'fast'; it has to be a finite number"),
        ("learning_rate", False, "learning_rate is False; it has to be a finite number"),
        ("learning_rate", float("nan"), "learning_rate is nan; it has to be a finite number"),
        ("grad_clip", float("inf"), "grad_clip is inf; it has to be a finite number"),
        ("weight_decay", 10**400, f"weight_decay is {10**400}; it has to be a finite number"),
        ("bias", 1, "bias is 1; it has to be true or false"),
        ("bias", "true", "bias is 'true'; it has to be true or false"),
        ("device", 0, "device is 0; it has to be text in quotes"),
        ("tokenizer", ["char"], "tokenizer is ['char']; it has to be text in quotes"),
        ("data", 3, "data is 3; it has to be a list of texts"),
        ("data", ["a", 3], "data is ['a', 3]; it has to be a list of texts"),
        ("architecture", "gpt3", "architecture 'gpt3' is not one of gpt2, modern, ngram, textbook; did you mean gpt2?"),
        ("schedule", 1, "schedule 1 is not one of cosine, wsd, linear, constant"),
        ("compile", True, "compile True is not one of auto, on, off"),
        ("precision", "float16", "precision 'float16' is not one of auto, float32, bfloat16; did you mean bfloat16?"),
    ],
)
def test_a_value_of_the_wrong_kind(name, value, message):
    assert refused(flags={name: value}) == message


def test_a_value_of_the_wrong_kind_in_a_file(write):
    file = write("[train]\nmax_steps = true\n")
    assert refused(file=file) == f"{file}: max_steps is True; it has to be a whole number"
    assert refused(file=write("[train]\nlearning_rate = inf\n")).endswith(
        ": learning_rate is inf; it has to be a finite number"
    )
    assert refused(file=write("[model.n_layer]\nx = 1\n")).endswith(
        ": n_layer is {'x': 1}; it has to be a whole number"
    )


def test_a_file_without_end_and_one_nested_without_end_are_refused(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("# " + "x" * (1 << 20), encoding="utf-8")
    with pytest.raises(ConfigError, match="is longer than 1,048,576 characters"):
        build_config(file=file)
    file.write_text("a = " + "[" * 5000 + "]" * 5000, encoding="utf-8")
    with pytest.raises(ConfigError, match="is nested too deeply"):
        build_config(file=file)
