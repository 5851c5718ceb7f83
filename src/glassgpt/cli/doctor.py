"""`glassgpt doctor`: what a bug report needs."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path


def doctor() -> None:
    """Versions, device and decisions with their reasons, free memory and disk; then one training step and one generation."""
    import numpy as np
    import torch
    from rich.console import Console
    from rich.table import Table

    from glassgpt.config import GPTConfig, TrainConfig
    from glassgpt.config.cache_folder import cache_folder
    from glassgpt.data import Batches
    from glassgpt.generate import Engine
    from glassgpt.machine import (
        decide_compile,
        decide_device,
        decide_precision,
        decide_threads,
        describe_environment,
        free_disk,
        free_memory,
    )  # fmt: skip
    from glassgpt.model import build_model
    from glassgpt.tokenizer import build_tokenizer
    from glassgpt.train.loss import chunked_loss
    from glassgpt.train.optimizer import build_optimizer
    from glassgpt.train.step import autocast, update

    cache = cache_folder()  # first, since it can be refused
    console = Console()
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in describe_environment().items():
        table.add_row(name, str(value))

    config = GPTConfig(architecture="modern", vocab_size=257, context_length=128, n_layer=4, n_head=4, n_embd=256)
    train = TrainConfig(max_steps=1, batch_size=8, micro_batch_size=8)
    decision = decide_device()
    device = torch.device(decision.choice)
    model = build_model(config, seed=1, device=device)
    text = np.frombuffer(Path(__file__).read_bytes(), np.uint8)
    batch = Batches(text, config.context_length, seed=1).batch(0, train.batch_size)
    batch = type(batch)(batch.tokens.to(device), batch.targets.to(device))

    def work(precision: str) -> Callable[[], object]:
        def forward_and_backward() -> None:
            with autocast(device, precision):
                loss = chunked_loss(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]

        return forward_and_backward

    with console.status("trying precision and compilation ..."):
        precision = decide_precision("auto", device, work)
        # A function of two operations stands for all: whether there is a compiler, not what it gains.
        compilation = decide_compile(
            "on", device, 0.0, lambda on: partial(torch.compile(torch.special.expit), torch.ones(64, device=device))
        )
    table.add_row("device", f"{decision.choice}: {decision.reason}")
    table.add_row("threads", str(decide_threads()))
    table.add_row("precision", f"{precision.choice}: {precision.reason} (4 layers, 256 wide)")
    works = "works here" if compilation.choice == "on" else compilation.reason
    table.add_row("compile", f"{works}; in training it is tried in long runs only")
    table.add_row("free memory", f"{free_memory(device) / 1e9:.1f} GB")
    table.add_row(
        "free disk",
        f"{free_disk(Path.cwd()) / 1e9:.1f} GB here, {free_disk(cache) / 1e9:.1f} GB for the cache",
    )

    model.zero_grad()
    before = time.perf_counter()
    result = update(
        model, build_optimizer(model, train), batch,
        step=0, learning_rate=1e-3, config=train, precision=precision.choice, loss=chunked_loss,
    )  # fmt: skip
    seconds = time.perf_counter() - before
    table.add_row("one training step", f"ok: loss {result.train_loss:.3f}, {seconds * 1000:.0f} ms")
    before = time.perf_counter()
    written = Engine(model.eval(), build_tokenizer("byte", lambda: iter(()), None, False)).generate(max_new_tokens=20)
    table.add_row("one generation", f"ok: {len(written)} characters, {(time.perf_counter() - before) * 1000:.0f} ms")
    console.print(table)
