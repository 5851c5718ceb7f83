"""How large a model a given time is worth: from a table measured on one machine, and a look at the speed of this one."""

import time
from collections.abc import Sequence

import torch

from glassgpt.config import RunConfig, build_config
from glassgpt.config.presets import SIZES, SIZES_STEP, SIZES_THREADS
from glassgpt.data import Batch, DataFolder
from glassgpt.errors import DataError
from glassgpt.machine import decide_device
from glassgpt.model import build_model
from glassgpt.train.loss import chunked_loss
from glassgpt.train.observers import Observer, tell

VOCABULARY = 65  # of the text that the sizes were measured on
MOST_THREADS = 4  # more have not been tried
TRIES = 5


def fit_to_time(config: RunConfig, data: DataFolder, observers: Sequence[Observer]) -> RunConfig:
    """Of a preset with a table of sizes, the one for the `minutes` that were asked for. Whoever asks for one of its settings
    has that alone. A run that says its length in steps, goes on from a model, was settled before (in a config.toml), is not on
    a CPU, or has little text, has the sizes that it comes with."""
    sizes, minutes = SIZES.get(config.preset, {}), config.train.minutes
    settings = {name for size in sizes.values() for name in size}
    settled = config.machine.threads and "threads" not in config.asked
    if not (sizes and minutes and "minutes" in config.asked) or settings & {*config.asked}:
        return config
    if config.finetune.from_ or settled or decide_device(config.machine.device).choice != "cpu":
        return config
    speed = SIZES_STEP / probe_seconds() * min(torch.get_num_threads(), MOST_THREADS) / SIZES_THREADS
    start = max(start for start in sizes if start <= minutes * speed)
    if (sizes[start].get("batch_size") or config.train.batch_size) % (config.train.micro_batch_size or 1):
        return config  # it was asked for
    fitted = config.resolved(**sizes[start])
    try:
        data.require_windows(fitted.model.context_length)
    except DataError:
        return config
    model, train = fitted.model, fitted.train
    tell(
        observers,
        f"{minutes:g} minutes at {speed:.2f} x the speed of the machine on which sizes were measured: {model.n_layer} "
        f"{'layers' if model.n_layer > 1 else 'layer'} x {model.n_embd}, n_gram {model.n_gram}, {train.batch_size} windows of "
        f"{model.context_length}",
    )
    return fitted


def probe_seconds() -> float:
    """A step of the smallest size of `char-cpu` without its optimizer, on one thread; the best of a few."""
    config = build_config(preset="char-cpu").resolved(vocab_size=VOCABULARY)
    model = build_model(config.model, seed=1)
    tokens = torch.arange(config.train.batch_size * config.model.context_length) % VOCABULARY
    batch = Batch(*[tokens.view(config.train.batch_size, -1)] * 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(TRIES):
            before = time.perf_counter()
            chunked_loss(model, batch).backward()  # type: ignore[no-untyped-call]
            seconds.append(time.perf_counter() - before)
    finally:
        torch.set_num_threads(threads)
    return min(seconds)
