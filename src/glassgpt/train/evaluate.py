"""Validation: the whole validation set, once."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from glassgpt.data import IGNORE_INDEX, Batch, DataFolder, validation_batches
from glassgpt.model import LanguageModel
from glassgpt.train.loss import chunked_loss, count_targets
from glassgpt.train.replicas import Replicas
from glassgpt.train.step import autocast

TOKENS_AT_ONCE = 8192  # enough to keep any machine busy; one window where a window is longer

# What a validation found, as metrics.jsonl keeps it: val_loss (nats a target), and beside it what `evaluate` says.
Metrics = dict[str, Any]


def evaluate(
    model: LanguageModel, data: DataFolder, device: torch.device, precision: str, replicas: Replicas | None = None
) -> Metrics:
    """val_loss over all of `data.val`, with dropout off; nothing is carried over from one window to the next. Beside it
    bits_per_byte: all nats, end-of-text included, over the bytes of the original text (or of the answers) that were scored;
    or for labels accuracy and `confusion` (labels, labels): row the true one, column the one that the model says."""
    batches = validation_batches(data, model.config.context_length, TOKENS_AT_ONCE)
    if data.meta.task == "labels":
        return score_labels(model, batches, len(data.meta.labels), device, precision)
    if data.meta.task == "text":
        nats, targets = score(replicas or Replicas(model), batches, device, precision)
        return {"val_loss": nats / targets, "bits_per_byte": nats / math.log(2) / data.scored_bytes}
    answered = 0  # bytes of the answers

    def counted() -> Iterator[Batch]:
        nonlocal answered
        for batch in batches:
            answered += int(data.token_lengths[batch.targets[batch.targets != IGNORE_INDEX].numpy()].sum())
            yield batch

    nats, targets = score(replicas or Replicas(model), counted(), device, precision)
    return {"val_loss": nats / targets, "bits_per_byte": nats / math.log(2) / max(1, answered)}


def score(replicas: Replicas, batches: Iterable[Batch], device: torch.device, precision: str) -> tuple[float, int]:
    """Nats over every target, and how many those are."""

    def nats_of(model: nn.Module, batch: Batch) -> tuple[float, int]:
        on_device = Batch(batch.tokens.to(device), batch.targets.to(device))
        with torch.inference_mode(), autocast(device, precision):
            return chunked_loss(model, on_device).item(), count_targets(batch)

    were_training = [model.training for model in replicas.models]
    for model in replicas.models:
        model.eval()
    nats, targets = 0.0, 0
    try:
        for some_nats, some_targets in replicas.map(nats_of, batches):
            nats, targets = nats + some_nats, targets + some_targets
    finally:
        for model, was_training in zip(replicas.models, were_training, strict=True):
            model.train(was_training)
    return nats, targets


def score_labels(
    model: LanguageModel, batches: Iterable[Batch], labels: int, device: torch.device, precision: str
) -> Metrics:
    """Of a classifier: what `evaluate` says of it."""
    was_training = model.training
    model.eval()
    nats = 0.0
    confusion = np.zeros((labels, labels), np.int64)
    try:
        with torch.inference_mode(), autocast(device, precision):
            for batch in batches:
                at_end = (batch.targets != IGNORE_INDEX).nonzero(as_tuple=True)  # one a row
                hidden = model.hidden(batch.tokens.to(device))[at_end]  # (B, C)
                log_probabilities = model.unembed(hidden).float().log_softmax(dim=-1).cpu()  # (B, labels)
                true = batch.targets[at_end]
                nats -= log_probabilities.gather(1, true[:, None]).sum().item()
                np.add.at(confusion, (true.numpy(), log_probabilities.argmax(dim=-1).numpy()), 1)
    finally:
        model.train(was_training)
    count = int(confusion.sum())
    return {"val_loss": nats / count, "accuracy": int(confusion.trace()) / count, "confusion": confusion.tolist()}
