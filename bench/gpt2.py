"""Tokens a second of a training step of GPT-2 (124M, random weights), beside transformers on the same machine.

    python bench/gpt2.py

Each figure is a process of its own, several times in turn: on a CPU two windows of 512 tokens a step, where there is a CUDA
device 32 of 1024, all of them compiled. Writes its part of docs/benchmarks.md.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from claims import machine, spread

from train import write_page

GLASS, PLAIN, CAST = "glassgpt, bfloat16", "transformers, plain float32 loop", "transformers, bfloat16 autocast"
ON_GPU = torch.cuda.is_available()
BATCH, CONTEXT, WARMUP, STEPS = (32, 1024, 5, 20) if ON_GPU else (2, 512, 1, 3)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    windows = torch.randint(50257, (BATCH, CONTEXT + 1), generator=torch.Generator().manual_seed(1))
    device = "cuda" if ON_GPU else "cpu"
    return windows[:, :-1].contiguous().to(device), windows[:, 1:].contiguous().to(device)


def glassgpt_step() -> Callable[[], object]:
    from glassgpt.config import build_config
    from glassgpt.data import Batch
    from glassgpt.machine import keep_freed_memory
    from glassgpt.model import build_model
    from glassgpt.train.loss import chunked_loss, plain_loss
    from glassgpt.train.optimizer import build_optimizer
    from glassgpt.train.step import update

    keep_freed_memory()
    tokens, targets = batch()
    flags = {"context_length": CONTEXT, "batch_size": BATCH, "micro_batch_size": BATCH}
    config = build_config(preset="gpt2", flags=flags)
    model = build_model(config.model, seed=1, device=tokens.device)
    loss = torch.compile(plain_loss) if ON_GPU else chunked_loss
    return partial(
        update, model, build_optimizer(model, config.train), Batch(tokens, targets),
        step=0, learning_rate=1e-4, config=config.train, precision="bfloat16", loss=loss,
    )  # fmt: skip


def transformers_step(autocast: bool) -> Callable[[], object]:
    import transformers

    tokens, targets = batch()
    config = transformers.GPT2Config(n_positions=CONTEXT, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    model = transformers.GPT2LMHeadModel(config).to(tokens.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=ON_GPU)
    if ON_GPU:
        model = torch.compile(model)

    def step() -> None:
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=autocast):
            logits = model(tokens).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


SYSTEMS = {GLASS: glassgpt_step, PLAIN: partial(transformers_step, False), CAST: partial(transformers_step, True)}


def measure(system: str) -> float:
    step, seconds = SYSTEMS[system](), []
    for _ in range(WARMUP + STEPS):
        before = time.perf_counter()
        step()
        if ON_GPU:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - before)
    return BATCH * CONTEXT / statistics.median(seconds[WARMUP:])


def text(found: dict[str, list[float]], about: str) -> str:
    lines = [
        f"""## GPT-2 (124M)

`python bench/gpt2.py`: tokens a second of training, {BATCH} windows of {CONTEXT} a step; median (least to most) of
{len(found[GLASS])} processes each, in turn.

| system | tokens/s | glassgpt is faster by |
|---|---|---|"""
    ]
    for system, speeds in found.items():
        times = [ours / theirs for ours, theirs in zip(found[GLASS], speeds, strict=True)]
        lines.append(f"| {system} | {spread(speeds, 0)} | {'' if system == GLASS else spread(times, 2) + ' x'} |")
    return "\n".join([*lines, "", about, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SYSTEMS, help="measure this one, in this process, and print its tokens/s")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only)))
        return
    found: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for _ in range(options.rounds):
        for system, speeds in found.items():
            command = [sys.executable, __file__, "--only", system]
            done = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
            speeds.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{system:<36} {speeds[-1]:12,.0f} tokens/s", flush=True)
    device = torch.cuda.get_device_name() if ON_GPU else machine()
    about = f"{datetime.date.today().isoformat()}, {device}, torch {torch.__version__}."
    write_page("gpt2 on a GPU" if ON_GPU else "gpt2", {"text": text(found, about)})
    print(text(found, about))


if __name__ == "__main__":
    main()
