"""What `minutes` makes of a preset that has sizes."""

import json

import pytest

from glassgpt.config import build_config
from glassgpt.config.presets import PRESETS, SIZES, SIZES_STEP, Size
from glassgpt.data import load_data, prepare
from glassgpt.train import fit
from glassgpt.train.fit import fit_to_time, fitting_size

SHAPE = ("n_layer", "n_head", "n_embd", "context_length", "batch_size", "n_gram")


@pytest.fixture
def data(tmp_path):
    """Text enough for every size."""
    (tmp_path / "long.txt").write_text("to be or not to be, that is the question\n" * 27_000)
    prepare((str(tmp_path / "long.txt"),), tmp_path / "data", "char")
    return load_data(tmp_path / "data")


@pytest.fixture
def short(text, tmp_path):
    text.write_text(20 * text.read_text("utf-8"), "utf-8")
    prepare((str(text),), tmp_path / "short", "char")
    return load_data(tmp_path / "short")


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)


@pytest.fixture
def speed(monkeypatch):
    """Of this machine, in those that the sizes were measured on."""
    set_to = lambda value: monkeypatch.setattr(fit, "probe_seconds", lambda: SIZES_STEP / value)  # noqa: E731
    set_to(1.0)
    return set_to


def shape_of(config):
    return {name: config.flat()[name] for name in SHAPE}


def settings_of(start):
    (size,) = [size for size in SIZES["char-cpu"] if size.minutes == start]
    return size.settings


def expected(start):
    return {name: value for name, value in (PRESETS["char-cpu"] | settings_of(start)).items() if name in SHAPE}


@pytest.mark.parametrize(
    ("minutes", "at", "start"),
    [
        (0.1, 1.0, 0.0),
        (0.3, 1.0, 0.25),
        (0.3, 0.5, 0.0),
        (0.3, 2.5, 0.6),
        (1.0, 1.0, 0.6),
        (2.0, 1.0, 2.0),
        (0.25, 9.0, 2.0),
        (15.0, 0.7, 8.0),
    ],
)
def test_more_time_on_a_faster_machine_is_a_larger_size_and_said_so(data, speed, recorder, minutes, at, start):
    speed(at)
    config = build_config(preset="char-cpu", flags={"minutes": minutes})
    fitted = fit_to_time(config, data, [recorder])
    assert shape_of(fitted) == expected(start)
    assert fitted.with_values() == config.resolved(**settings_of(start)).with_values()  # and nothing else
    ((_, said),) = recorder.of("message")
    assert said.startswith(f"{minutes:g} minutes at {at:.2f} x the speed of the machine on which sizes were measured: ")
    assert f"x {fitted.model.n_embd}, n_gram {fitted.model.n_gram}, {fitted.train.batch_size} windows of" in said


@pytest.mark.parametrize(
    "flags",
    [
        {"max_steps": 9},
        {"minutes": 1.0, "n_layer": 3},
        {"minutes": 1.0, "context_length": 32},
        {"minutes": 1.0, "n_gram": 2},
        {"minutes": 1.0, "device": "mps"},
        {},
    ],
)
def test_whoever_says_more_or_less_has_the_preset(data, speed, monkeypatch, flags):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: "device" in flags)
    config = build_config(preset="char-cpu", flags=flags)
    assert fit_to_time(config, data, ()) is config


def test_other_presets_have_no_sizes(data, speed):
    config = build_config(preset="baby", flags={"minutes": 1.0})
    assert fit_to_time(config, data, ()) is config


@pytest.mark.parametrize(("minutes", "asked"), [(0.1, {}), (0.3, {}), (0.3, {"threads": 2})])
def test_a_rerun_has_the_size_of_the_first_run(data, speed, minutes, asked):
    config = fit_to_time(build_config(preset="char-cpu", flags={"minutes": minutes} | asked), data, ())
    config = config.resolved(threads=2, replicas=1, precision="float32", compile="off")
    speed(9.0)
    assert fit_to_time(config, data, ()) is config


def test_what_goes_on_from_a_model_has_its_sizes(data, speed):
    config = build_config(preset="char-cpu", flags={"minutes": 1.0, "from_": "runs/words-1"})
    assert fit_to_time(config, data, ()) is config


def test_a_micro_batch_that_was_asked_for_fits(data, speed):
    asked = {"minutes": 1.0, "micro_batch_size": 16}
    config = build_config(preset="char-cpu", flags=asked)
    assert fit_to_time(config, data, ()) is config
    fitted = fit_to_time(build_config(preset="char-cpu", flags=asked | {"micro_batch_size": 4}), data, ())
    assert fitted.train.micro_batch_size == 4 and fitted.train.batch_size == 8


def test_a_size_leaves_what_was_asked_for(data, speed):
    fitted = fit_to_time(build_config(preset="char-cpu", flags={"minutes": 15.0, "learning_rate": 2e-3}), data, ())
    assert shape_of(fitted) == expected(8.0) and fitted.train.weight_decay == settings_of(8.0)["weight_decay"]
    assert fitted.train.learning_rate == 2e-3
    asked = build_config(preset="char-cpu", flags={"minutes": 15.0, "optimizer": "adamw"})
    fitted = fit_to_time(asked, data, ())
    assert shape_of(fitted) == expected(8.0) and fitted.train.learning_rate == asked.train.learning_rate


def test_labels_and_conversations_have_rows_of_their_own_length(speed, tmp_path):
    rows = [{"text": f"{word} " * 9, "label": word} for word in ("to", "be", "or", "not") for _ in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare((str(tmp_path / "rows.jsonl"),), tmp_path / "rows", "char")
    config = build_config(flags={"tokenizer": "char"})
    assert fit_to_time(config, load_data(tmp_path / "rows"), ()) is config


def test_a_short_text_is_not_learned_by_heart(short, speed, recorder):
    config = build_config(preset="char-cpu", flags={"minutes": 5.0})
    fitted = fit_to_time(config, short, [recorder])
    assert shape_of(fitted) == expected(0.0) and fitted.train.minutes == 0
    steps, read = fitted.train.max_steps, SIZES["char-cpu"][0].most_passes
    assert (steps - 1) * 16 * 64 < read * len(short.train) <= (steps + 1) * 16 * 64
    assert fitted.train.warmup_steps <= steps // 10
    asked = build_config(preset="char-cpu", flags={"minutes": 5.0, "warmup_steps": 3})
    assert fit_to_time(asked, short, ()).train.warmup_steps == 3
    _, (_, said) = recorder.of("message")
    assert said == (
        f"the text is short for 5 minutes: {steps} steps read it {steps * 16 * 64 / len(short.train):.2g} times, "
        "after which most are known by heart; for more say --max-steps instead of --minutes"
    )


def test_of_the_shortest_text_something_is_learned(tmp_path, speed, recorder):
    (tmp_path / "song.txt").write_text("row, row, row your boat\n" * 50)
    prepare((str(tmp_path / "song.txt"),), tmp_path / "song", "char")
    song = load_data(tmp_path / "song")
    fitted = fit_to_time(build_config(flags={"tokenizer": "char"}), song, [recorder])
    assert fitted.train.max_steps == fit.FEWEST_STEPS
    ((_, said),) = recorder.of("message")
    assert f"80 steps read it {80 * 8 * 256 / len(song.train):.2g} times, " in said


def test_the_default_run_ends_before_a_short_text_is_learned_by_heart(short, speed, recorder):
    config = build_config(flags={"tokenizer": "char"})
    fitted = fit_to_time(config, short, [recorder])
    read = fitted.train.max_steps * 8 * 256
    assert 80 * 8 * 256 < read <= SIZES["mini"][0].most_passes * len(short.train) + 8 * 256
    ((_, said),) = recorder.of("message")
    assert said.startswith(f"the text is short for 3.1 minutes: {fitted.train.max_steps} steps read it ")


def test_the_default_run_on_a_long_text_is_left_alone(data, speed, recorder):
    config = build_config(flags={"tokenizer": "char"})
    assert fit_to_time(config, data, [recorder]) == config and not recorder.of("message")


def test_how_often_a_long_text_can_be_read_is_not_known(short, speed, recorder, monkeypatch):
    monkeypatch.setattr(fit, "LONGEST_SHORT_TEXT", len(short.train) - 1)
    config = build_config(flags={"tokenizer": "char"})
    assert fit_to_time(config, short, [recorder]) == config and not recorder.of("message")


def test_a_size_needs_time_and_text():
    small, large = Size(0.0, 100, 2, {}), Size(1.0, 50, 4, {"n_layer": 2})
    for minutes, tokens, size in ((0.9, 10**6, small), (1.0, 10**6, large), (1.0, 750, large), (99.0, 749, small)):
        assert fitting_size((small, large), minutes, tokens) is size


def test_every_size_can_be_built():
    for preset, sizes in SIZES.items():
        assert sizes[0].minutes == 0.0 and list(sizes) == sorted(sizes, key=lambda size: size.minutes)
        for size in sizes:
            config = build_config(preset=preset, flags={"minutes": 1.0}).resolved(**size.settings)
            assert config.with_values(**size.settings).flat() == config.flat(), size


def test_the_look_at_the_speed_is_a_short_one():
    assert 0.001 < fit.probe_seconds() < 0.5
