"""Validation: the whole validation set, once, in consecutive windows."""

import math
from typing import NamedTuple

import numpy as np
import torch

from glassgpt.data import DataFolder, validation_windows
from glassgpt.model import LanguageModel
from glassgpt.train.loss import chunked_loss, count_targets
from glassgpt.train.step import autocast

TOKENS_AT_ONCE = 8192  # enough to keep any machine busy; one window where a window is longer


class Evaluation(NamedTuple):
    val_loss: float  # nats a token
    bits_per_byte: float  # all nats, end-of-text included, over the bytes of the original text that were scored


def evaluate(model: LanguageModel, data: DataFolder, device: torch.device, precision: str) -> Evaluation:
    """Loss over all of `data.val`, with dropout off. Nothing is carried over from one window to the next."""
    nats, targets = score(model, data.val, device, precision)
    return Evaluation(nats / targets, nats / math.log(2) / data.scored_bytes)


def score(model: LanguageModel, tokens: np.ndarray, device: torch.device, precision: str) -> tuple[float, int]:
    """Nats over every token but the first, and how many those are."""
    context_length = model.config.context_length
    rows = max(1, TOKENS_AT_ONCE // context_length)
    was_training = model.training
    model.eval()
    nats, targets = 0.0, 0
    try:
        with torch.inference_mode(), autocast(device, precision):
            for batch in validation_windows(tokens, context_length, rows):
                on_device = type(batch)(batch.tokens.to(device), batch.targets.to(device))
                nats += chunked_loss(model, on_device).item()
                targets += count_targets(batch)
    finally:
        model.train(was_training)
    return nats, targets
