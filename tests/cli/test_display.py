"""What a terminal shows: the live picture, drawn into a recording console."""

import io
import json
import math
import time
from pathlib import Path

import pytest
from rich.console import Console

from glassgpt.checkpoint import Run
from glassgpt.cli.display import TrainingDisplay, goodbye
from glassgpt.config import build_config

METRICS = {"train_loss": 2.5, "tokens_per_second": 12_345.6, "learning_rate": 1e-3, "grad_norm": 1.0}
RESULT = {
    "task": "text", "val_loss": 2.0, "bits_per_byte": 1.5, "best_val_loss": 1.75, "best_step": 12,
    "baseline_bits_per_byte": 2.0, "steps": 60, "tokens": 600, "seconds": 3.0, "tokens_per_second": 200.0, "parameters": 7,
}  # fmt: skip


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    display = TrainingDisplay()
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=40, record=True)
    display.console = display.preparation.console = console
    display.bar.live.console = console
    return display


def shown(display):
    return display.console.export_text(clear=False)


def watch(display, config):
    with display:
        display.on_prepare("reading the text", 0.5)
        display.on_message("2,611,000 parameters")
        display.on_start(Run(Path("runs/x-1")), config, 0, math.inf)
        display.on_sample(0, "babble")
        for step in range(1, 6):
            display.on_step(step, METRICS)
        if display.live:
            display.live.refresh()
        display.on_evaluation(5, {"val_loss": 2.25, "bits_per_byte": 1.5, "best_val_loss": 2.25})
        display.on_sample(5, "def better(self):\n    [not markup]")
        if display.live:
            display.live.refresh()
        display.on_evaluation(6, {"val_loss": 2.5, "bits_per_byte": 1.7, "best_val_loss": 2.25})


def test_a_terminal_sees_the_bar_the_figures_and_what_the_model_writes(terminal):
    watch(terminal, build_config(flags={"max_steps": 9, "eval_every": 5}))
    text = shown(terminal)
    for piece in (
        "2,611,000 parameters", "run: runs/x-1", "9 steps of", "validation every 5", "5/9", "loss 2.500", "12,346 tokens/s",
        "what it writes before training", "babble", "what it writes after 5 steps", "[not markup]",
    ):  # fmt: skip
        assert piece in text, piece
    assert "step      5  validation 2.2500 nats a token, 1.5000 bits a byte, the best so far" in text
    assert "step      6  validation 2.5000 nats a token, 1.7000 bits a byte\n" in text
    assert terminal.live is None  # the terminal is whole again


def test_a_dumb_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    watch(terminal, build_config(flags={"max_steps": 9, "eval_every": 5}))
    text = shown(terminal)
    assert "step 1/9  loss 2.500" in text and "it writes: def better(self):" in text


def test_lines_are_plain_where_there_is_no_terminal(capsys):
    display = TrainingDisplay()
    watch(display, build_config(flags={"max_steps": 9, "eval_every": 5}))
    text = capsys.readouterr().err
    assert "\x1b" not in text
    assert "reading the text ..." in text and "step 1/9  loss 2.500" in text and "it writes: def better(self):" in text


def test_the_last_sample_is_shown_whole(capsys):
    display = TrainingDisplay()
    with display:
        display.on_start(Run(Path("r")), build_config(flags={"max_steps": 9, "eval_every": 9}), 0, math.inf)
        display.on_sample(9, "line\n" * 30)
    _, _, whole = capsys.readouterr().err.partition("--- what it writes after 9 steps ---\n")
    assert whole.count("line\n") == 30


def test_the_terminal_is_whole_again_after_an_error(terminal):
    def interrupted():
        with terminal:
            terminal.on_start(Run(Path("r")), build_config(flags={"max_steps": 9}), 0, math.inf)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.live is None


def test_a_run_whose_steps_were_given_does_not_speak_of_the_time(capsys):
    display = TrainingDisplay()
    with display:
        display.on_start(Run(Path("r")), build_config(flags={"max_steps": 9}), 0, math.inf)
        display.on_plan(build_config(flags={"max_steps": 9, "eval_every": 5}))
    text = capsys.readouterr().err
    assert "9 steps of 8 x 256 tokens, validation every 5" in text and "fit into the time" not in text


@pytest.mark.parametrize(
    ("every", "said"), [(5, "validation every 5\n"), (9, "validation at the end\n"), (250, "at the end\n")]
)
def test_an_interval_that_is_as_long_as_the_run_is_its_end(capsys, every, said):
    display = TrainingDisplay()
    with display:
        display.on_plan(build_config(flags={"max_steps": 9, "eval_every": every}))
    assert said in capsys.readouterr().err


def test_a_timed_run_shows_the_share_of_its_time_and_its_steps_once_they_are_fixed(terminal, capsys):
    timed = build_config(flags={"minutes": 1.0, "eval_every": 7})
    with terminal:
        terminal.on_start(Run(Path("r")), timed, 0, time.monotonic() + 60)
        terminal.loop_began -= 15  # a quarter of 75 seconds is gone
        for step in range(1, 6):
            terminal.on_step(step, METRICS)
        assert terminal.bar.tasks[0].completed == pytest.approx(15 / 75, abs=0.02)
        terminal.live.refresh()
        terminal.on_plan(build_config(flags={"max_steps": 1234, "eval_every": 7}))
    text = shown(terminal)
    assert "steps of 8 x 256 tokens, as many as fit into the time, validation every 7" in text
    assert "0:59 left" in text or "1:00 left" in text
    assert text.count("1,234 steps fit into the time") == 1


def test_the_last_sample_is_not_shown_twice(capsys):
    display = TrainingDisplay()
    with display:
        display.on_start(Run(Path("r")), build_config(flags={"max_steps": 9, "eval_every": 9}), 0, math.inf)
        display.on_sample(4, "early words")
        display.on_sample(9, "last words")
    text = capsys.readouterr().err
    assert text.count("last words") == 1 and "it writes: early words" in text


def test_the_end_says_which_checkpoint_sampling_takes(tmp_path, capsys):
    for best, said in ((12, True), (60, False)):
        (tmp_path / "result.json").write_text(json.dumps(RESULT | {"best_step": best}))
        goodbye(Run(tmp_path))
        shown_text = "".join(capsys.readouterr().err.split())  # a long path is folded
        assert ("whichtakesthebestcheckpoint,afterstep12" in shown_text) == said
        assert (f"{tmp_path}/checkpoints/step-00000060" in shown_text) == said


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({}, None),  # of an older run
        ({"flops_per_second": None, "mfu": None}, None),
        (
            {"flops_per_second": 0.0431e12, "mfu": None},
            "43 GFLOP/s at the end, MFU unknown",
        ),
        ({"flops_per_second": 474.8e12, "mfu": 0.48}, "475 TFLOP/s at the end, 48.0% of what the device can do (MFU)"),
    ],
)
def test_the_end_says_how_well_the_device_was_used(tmp_path, capsys, measured, said):
    (tmp_path / "result.json").write_text(json.dumps(RESULT | {"best_val_loss": 2.0, "best_step": 60} | measured))
    goodbye(Run(tmp_path))
    shown = capsys.readouterr().err
    assert ("arithmetic" in shown) == (said is not None)
    assert "".join((said or "").split()) in "".join(shown.split())


@pytest.mark.parametrize(
    ("best", "said"),
    [
        ({"val_loss": 2.0, "best_val_loss": 2.0, "best_step": 60}, "3.0000: 25% below counting n-grams (4.000)"),
        ({"val_loss": 2.0, "best_val_loss": 1.5, "best_step": 12}, "3.0000, best 2.2500: 44% below counting n-grams"),
        ({"val_loss": 4.0, "best_val_loss": 3.0, "best_step": 12}, "6.0000, best 4.5000: 12% above counting n-grams"),
    ],
)
def test_what_sampling_takes_is_held_against_counting(tmp_path, capsys, best, said):
    bits = {"bits_per_byte": 1.5 * best["val_loss"], "baseline_bits_per_byte": 4.0}
    (tmp_path / "result.json").write_text(json.dumps(RESULT | best | bits))
    goodbye(Run(tmp_path))
    assert "".join(said.split()) in "".join(capsys.readouterr().err.split())


def test_the_end_says_which_speed_is_which(tmp_path, capsys):
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    goodbye(Run(tmp_path))  # its lines are gone
    assert "3 s in all; 200 tokens/s with validations" in capsys.readouterr().err
    lines = [{"step": step, "tokens_per_second": speed} for step, speed in ((1, 7.0), (10, 512.0), (20, 514.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    goodbye(Run(tmp_path))
    assert "3 s in all; 512 tokens/s, 200 with validations" in capsys.readouterr().err
