"""What is looked into: the model of a run, and texts that are its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glassgpt.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from glassgpt.config.cache_folder import cache_folder
from glassgpt.data import IGNORE_INDEX, Batch
from glassgpt.data.batches import as_batch
from glassgpt.data.prepare import load_if_whole
from glassgpt.generate import Engine
from glassgpt.generate.engine import engine_of

CONTEXT_TOKENS, LONGEST_CONTEXT = 1024, 128  # of the validation text


def open_subject(
    run: Path | None, device: str, report: Callable[[str], object], tokenizer: str | None
) -> tuple[Checkpoint, Engine]:
    """As `load_run`, and a model that tells labels apart as well."""
    checkpoint = load_checkpoint(find_checkpoint(run, report))
    return checkpoint, engine_of(checkpoint, device, tokenizer)


def validation_text(checkpoint: Checkpoint, engine: Engine) -> Batch | None:
    """Windows spread evenly over what the run was validated with, where it still lies in the cache; None elsewhere. Targets
    are those that training has: of conversations the answers only."""
    fingerprint = checkpoint.state.get("data_fingerprint")
    if not isinstance(fingerprint, str) or not fingerprint.isalnum():
        return None
    data = load_if_whole(cache_folder() / "data" / fingerprint)
    if data is None or data.meta.vocab_size > engine.model.config.vocab_size:
        return None
    length = min(LONGEST_CONTEXT, engine.model.config.context_length, len(data.val))
    if not length:
        return None
    rows = min(CONTEXT_TOKENS, len(data.val)) // length
    begins = np.linspace(0, len(data.val) - length, rows).astype("int64")
    places = begins[:, None] + np.arange(length + 1)
    followed = places[:, 1:] < len(data.val)
    if data.val_marks is not None:
        followed &= data.val_marks[np.minimum(places[:, 1:], len(data.val) - 1)] > 0
    windows = data.val[np.minimum(places, len(data.val) - 1)].astype("int64")
    batch = as_batch(windows[:, :-1], np.where(followed, windows[:, 1:], IGNORE_INDEX))
    return Batch(*(tensor.to(engine.device) for tensor in batch))


def written_tokens(engine: Engine, most: int) -> Tensor:
    """(1, T): what the model writes by itself, at most so many, as the tokens that it chose: its text could be cut into
    others, and half a character is none. Where it ends at once, what it began with."""
    beginning = engine.encode_prompt("")
    steps = engine.write_ids(beginning, max_new_tokens=most)
    ids = [id for (id,) in steps if id is not None and id not in engine.ends]
    return torch.tensor([ids], device=engine.device) if ids else beginning
