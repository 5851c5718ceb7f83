"""What a terminal shows: the live picture, drawn into a recording console."""

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from glassgpt.checkpoint import Run
from glassgpt.cli.display import TrainingDisplay
from glassgpt.config import build_config

METRICS = {"train_loss": 2.5, "tokens_per_second": 12_345.6, "learning_rate": 1e-3, "grad_norm": 1.0}


@pytest.fixture
def terminal():
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
