"""A run that takes a second: every size different from every other, so that no two can be confused."""

import random
import signal
import time
from pathlib import Path

import pytest
import torch

import glassgpt
from glassgpt.config import RunConfig
from glassgpt.train import Observer
from glassgpt.train.loss import chunked_loss

TINY = {
    "tokenizer": "char", "context_length": 11, "n_layer": 2, "n_head": 3, "n_embd": 24, "n_inner": 40, "dropout": 0.1,
    "batch_size": 6, "micro_batch_size": 2, "optimizer": "adamw", "learning_rate": 3e-3, "warmup_steps": 4, "max_steps": 14,
    "eval_every": 5, "save_every": 4, "sample_every": 7, "log_every": 1,
    "device": "cpu", "precision": "float32", "compile": "off", "threads": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder and with a cache of its own, and torch's thread count as it was."""
    threads = torch.get_num_threads()
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    # A shell's background job ignores Ctrl-C, and a run inside it rightly does too; these tests press it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_picture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture takes as long as a run here; tests that look at it ask for the fixture `picture`."""
    if "picture" not in request.fixturenames:
        monkeypatch.setattr("glassgpt.train.plot.plot_losses", lambda metrics, path, baseline, name: None)


@pytest.fixture
def picture() -> None:
    """loss.png is drawn."""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Words in an order that nobody knows, with something to learn in their spelling."""
    draw = random.Random(5)
    words = ["glass", "see", "through", "token", "head", "loss", "stream", "ünï"]
    path = tmp_path / "words.txt"
    path.write_text(" ".join(draw.choice(words) for _ in range(600)), encoding="utf-8")
    return path


@pytest.fixture
def config(text: Path) -> RunConfig:
    return glassgpt.build_config(flags=TINY | {"data": (str(text),)})


class Recorder(Observer):
    """Everything that was told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def on_message(self, text):
        self.events.append(("message", text))

    def on_change(self, step, changes):
        self.events.append(("change", step, changes))

    def on_plan(self, config):
        self.events.append(("plan", config))

    def on_step(self, step, metrics):
        self.events.append(("step", step, metrics))

    def on_evaluation(self, step, metrics):
        self.events.append(("evaluation", step, metrics))

    def on_sample(self, step, text):
        self.events.append(("sample", step, text))

    def on_save(self, step, folder):
        self.events.append(("save", step, folder))

    def of(self, kind: str) -> list[tuple[object, ...]]:
        return [event for event in self.events if event[0] == kind]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def soon_finished(monkeypatch):
    """Nothing is set aside for the end, so that a run of few seconds has time to train."""
    monkeypatch.setattr("glassgpt.train.plan.SECONDS_TO_FINISH", 0.3)


@pytest.fixture
def slow_steps(monkeypatch):
    """Makes each forward and backward last so many seconds more; may be called again meanwhile."""
    seconds = [0.0]

    def loss(model, batch):
        time.sleep(seconds[0])
        return chunked_loss(model, batch)

    monkeypatch.setattr("glassgpt.train.settle.chunked_loss", loss)
    return lambda each: seconds.__setitem__(0, each)
