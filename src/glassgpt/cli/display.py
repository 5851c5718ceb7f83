"""What a person sees of a run: a live picture in a terminal, plain lines elsewhere, and a summary at the end."""

import math
import time
from collections.abc import Mapping
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text

from glassgpt.checkpoint import Run, load_checkpoint
from glassgpt.checkpoint.metrics import step_speed
from glassgpt.cli.confusion import confusion_table, validation_of
from glassgpt.cli.progress import PreparationDisplay
from glassgpt.config import RunConfig
from glassgpt.config.schema import shown_name
from glassgpt.data import DataFolder
from glassgpt.disk import as_argument
from glassgpt.generate import Engine, TextClassifier
from glassgpt.model import LanguageModel
from glassgpt.model.classifier import Classifier
from glassgpt.train import Observer

SAMPLE_TOKENS = 200
SAMPLE_TEXTS = 8
SECONDS_BETWEEN_LINES = 10.0
LINES_OF_SAMPLE = 12


def training_sample(model: LanguageModel, data: DataFolder) -> str:
    """What the model makes of it by now: the beginning of a text; or its answer to the first conversation for validation; or
    its labels of the first texts for validation."""
    tokenizer, template = data.tokenizer(), data.template()
    if isinstance(model, Classifier):
        return labelled_sample(model, data)
    if template is None:
        return Engine(model, tokenizer).generate(max_new_tokens=SAMPLE_TOKENS)
    engine = Engine(model, tokenizer, [template.end_id(tokenizer)])
    asked = first_question(data)[-model.config.context_length :]
    answer = engine.write(torch.tensor([asked], device=engine.device), max_new_tokens=SAMPLE_TOKENS)
    return tokenizer.decode(asked) + "".join(pieces[0] for pieces in answer)


def first_question(data: DataFolder) -> list[int]:
    """The first conversation for validation, up to its first answer."""
    assert data.val_marks is not None
    return [int(id) for id in data.val[: int(np.argmax(data.val_marks))]]


def labelled_sample(model: Classifier, data: DataFolder) -> str:
    assert data.val_marks is not None
    tokenizer = data.tokenizer()
    starts = [*data.val_documents[: SAMPLE_TEXTS + 1, 0].tolist(), len(data.val)][: SAMPLE_TEXTS + 1]
    texts = [tokenizer.decode(data.val[a:b].tolist()) for a, b in pairwise(starts)]
    lines = []
    for text, true, verdict in zip(
        texts, data.val_marks, TextClassifier(model, tokenizer).classify(texts), strict=False
    ):
        right = "" if verdict.label == model.labels[true] else f" (it is {model.labels[true]})"
        lines.append(
            f"{verdict.label} {verdict.probabilities[verdict.label]:.0%}{right}: {' '.join(text.split())[:80]}"
        )
    return "\n".join(lines)


class TrainingDisplay(Observer):
    """Watches a run. Use as a context manager, so that the terminal is whole again whatever happens."""

    called = "the display"

    def __init__(self) -> None:
        self.preparation = PreparationDisplay()
        self.console = self.preparation.console
        self.live: Live | None = None
        self.bar = Progress(
            TextColumn("step {task.fields[step]}"), BarColumn(bar_width=None), TextColumn("{task.fields[news]}"),
            console=self.console, expand=True,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=1.0, step="", news="")
        self.max_steps = 0
        self.does = "writes"
        self.deadline = math.inf
        self.intervals_shown = False
        self.first_step = 0
        self.sample, self.sample_step = "", 0
        self.best = float("nan")
        self.loop_began = self.last_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.preparation.close_bar()
        self.on_end()

    def on_prepare(self, stage: str, share: float) -> None:
        self.preparation.on_prepare(stage, share)

    def on_message(self, text: str) -> None:
        self.preparation.close_bar()
        self._print(text)

    def on_start(self, run: Run, config: RunConfig, step: int, deadline: float) -> None:
        self._print(f"run: {run.folder}" + (f", going on after step {step}" if step else ""))
        self.first_step, self.loop_began, self.deadline = step, time.monotonic(), deadline
        self.does = "says" if config.data.task == "labels" else "writes"
        self.on_plan(config)
        if self.preparation.is_live:
            self.live = Live(self.bar, console=self.console, transient=True, refresh_per_second=4)
            self.live.start()

    def on_change(self, step: int, changes: dict[str, tuple[Any, Any]]) -> None:
        said = ", ".join(f"{shown_name(name)} {now} (was {was})" for name, (was, now) in changes.items())
        self._print(f"from step {step + 1} on: {said}")

    def on_plan(self, config: RunConfig) -> None:
        train = config.train
        tokens = config.model.context_length
        content = {"conversations": "conversations", "labels": "texts"}.get(config.data.task, f"x {tokens} tokens")
        steps = f"steps of {train.batch_size} {content}"
        if train.eval_every and not self.intervals_shown:
            length = f"{train.max_steps:,} {steps}" if train.max_steps else f"{steps}, as many as fit into the time"
            at_the_end = 0 < train.max_steps <= train.eval_every
            self._print(f"{length}, validation {'at the end' if at_the_end else f'every {train.eval_every:,}'}")
            self.intervals_shown = True
        elif train.max_steps and not self.max_steps and self.deadline < math.inf:
            self._print(f"{train.max_steps:,} steps fit into the time")
        self.max_steps = train.max_steps

    def on_step(self, step: int, metrics: dict[str, Any]) -> None:
        news = (
            f"loss {metrics['train_loss']:.3f}  best {self.best:.3f}  {metrics['tokens_per_second']:,.0f} tokens/s  "
            f"{self._time_left(step)}"
        ).replace("best nan  ", "")
        of_all = f"{step}/{self.max_steps}" if self.max_steps else f"{step}"
        if self.live:
            self.bar.update(self.task, completed=self._share_done(step), step=of_all, news=news)
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self._print(f"step {of_all}  {news}")
            self.last_line = time.monotonic()

    def on_evaluation(self, step: int, metrics: dict[str, Any]) -> None:
        self.best = metrics["best_val_loss"]
        mark = ", the best so far" if metrics["val_loss"] <= self.best else ""
        self._print(f"step {step:>6}  validation {metrics['val_loss']:.4f} {unit(metrics)}, {in_words(metrics)}{mark}")

    def on_sample(self, step: int, text: str) -> None:
        self.sample, self.sample_step = text, step
        if self.live:
            lines = text.splitlines()[:LINES_OF_SAMPLE]
            title = f"what it {self.does} after {step:,} steps" if step else f"what it {self.does} before training"
            self.live.update(Group(self.bar, Panel(Text("\n".join(lines)), title=title, height=LINES_OF_SAMPLE + 2)))
        elif 0 < step != self.max_steps:
            head = " ".join((text.splitlines()[0] if self.does == "says" else text).split())[:160]
            self._print(f"step {step:>6}  it {self.does}: {head}")

    def on_end(self) -> None:
        if self.live:
            self.live.stop()
            self.live = None
        if self.sample_step and self.sample_step == self.max_steps:
            self._print(f"--- what it {self.does} after {self.sample_step:,} steps ---\n{self.sample}\n---")
            self.sample_step = 0

    def _share_done(self, step: int) -> float:
        if self.max_steps:
            return step / self.max_steps
        return (time.monotonic() - self.loop_began) / (self.deadline - self.loop_began)

    def _time_left(self, step: int) -> str:
        done = step - self.first_step
        if done < 3:
            return ""
        pace = (time.monotonic() - self.loop_began) / done
        seconds = pace * (self.max_steps - step) if self.max_steps else max(0.0, self.deadline - time.monotonic())
        return (
            f"{int(seconds // 60)}:{int(seconds % 60):02d} left" if seconds < 3600 else f"{seconds / 3600:.1f} h left"
        )

    def _print(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=not self.console.is_terminal)


def unit(metrics: Mapping[str, Any]) -> str:
    return "nats a text" if "accuracy" in metrics else "nats a token"


def in_words(metrics: Mapping[str, Any]) -> str:
    """The figure that means something whatever the tokenizer."""
    if "accuracy" in metrics:
        return f"{metrics['accuracy']:.1%} right"
    return f"{metrics['bits_per_byte']:.4f} bits a byte"


def in_words_of_size(flops: float) -> str:
    """In tera or giga, without digits that say nothing."""
    return f"{flops / 1e12:,.0f} T" if flops >= 1e13 else f"{flops / 1e9:,.0f} G"


def best_bits_per_byte(result: dict[str, Any]) -> float:
    """Bits a byte and nats a token are one and the same, but for a constant of the text and its tokenizer."""
    return float(
        result["bits_per_byte"] * (result["best_val_loss"] / result["val_loss"] if result["val_loss"] else 1.0)
    )


def goodbye(run: Run) -> None:
    """The figures of a finished run, and what to do with it."""
    result = run.result()
    assert result is not None
    console = PreparationDisplay().console
    table = Table("", Column(overflow="fold"), show_header=False, box=None, padding=(0, 2))  # a long path stays whole
    table.add_row("validation loss", f"{result['val_loss']:.4f} {unit(result)} (best {result['best_val_loss']:.4f})")
    if "accuracy" in result:
        commonest = f"always the commonest label: {result['baseline_accuracy']:.1%}"
        table.add_row("right labels", f"{result['accuracy']:.1%} ({commonest})")
    else:
        lowest, counting = best_bits_per_byte(result), result["baseline_bits_per_byte"]
        gain = 1 - lowest / counting
        place = f"{abs(gain):.0%} {'below' if gain > 0 else 'above'} counting n-grams ({counting:.3f})"
        bits = f"{result['bits_per_byte']:.4f}"
        if result["best_step"] != result["steps"]:
            bits += f", best {lowest:.4f}"
        table.add_row("bits a byte", f"{bits}: {place}")
    table.add_row("trained on", f"{result['tokens']:,} tokens in {result['steps']:,} steps")
    speed, of_loop = step_speed(run.metrics()), f"{result['tokens_per_second']:,.0f}"
    speeds = f"{speed:,.0f} tokens/s, {of_loop} with validations" if speed else f"{of_loop} tokens/s with validations"
    table.add_row("time", f"{result['seconds']:.0f} s in all; {speeds}")
    if result.get("flops_per_second"):
        mfu = f"{result['mfu']:.1%} of what the device can do (MFU)" if result["mfu"] else "MFU unknown"
        table.add_row("arithmetic", f"{in_words_of_size(result['flops_per_second'])}FLOP/s at the end, {mfu}")
    table.add_row("model", f"{result['parameters']:,} parameters in {run.folder}")
    verb = {"conversations": "chat", "labels": "classify"}.get(result["task"], "sample")
    table.add_row("next", f"glassgpt {verb} {as_argument(run.folder)}")
    if result["best_step"] != result["steps"]:
        last = as_argument(run.checkpoint_folder(result["steps"]))
        table.add_row("", f"which takes the best checkpoint, after step {result['best_step']:,}; the last is {last}")
    console.print(table)
    if "accuracy" in result:
        best = run.checkpoint_folder(result["best_step"])
        console.print(confusion_table(load_checkpoint(best).labels, validation_of(best)["confusion"]))
