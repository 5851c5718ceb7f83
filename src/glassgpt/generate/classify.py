"""What a classifier says of texts."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from glassgpt.checkpoint import find_checkpoint, load_checkpoint, load_model
from glassgpt.disk import as_argument
from glassgpt.errors import ConfigError, DataError
from glassgpt.machine import decide_device
from glassgpt.model.classifier import Classifier
from glassgpt.tokenizer import Tokenizer

TOKENS_AT_ONCE = 8192


class Verdict(NamedTuple):
    label: str
    probabilities: dict[str, float]  # of every label, in the order of their numbers


class TextClassifier:
    """`classify` many texts, or `verdict` of one."""

    def __init__(self, model: Classifier, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.labels = model.labels

    def verdict(self, text: str) -> Verdict:
        return next(self.classify([text]))

    def classify(self, texts: Sequence[str], report: Callable[[float], None] | None = None) -> Iterator[Verdict]:
        """In the order of the texts, of each the first context_length tokens. `report` is handed the share that is done.
        Raises DataError for an empty text."""
        for probabilities in self.probabilities(texts, report):
            shares = dict(zip(self.labels, probabilities.tolist(), strict=True))
            yield Verdict(self.labels[int(probabilities.argmax())], shares)

    def probabilities(self, texts: Sequence[str], report: Callable[[float], None] | None = None) -> torch.Tensor:
        """(texts, labels), float32, on the CPU."""
        limit = self.model.config.context_length
        rows = [ids[:limit].astype(np.int64) for ids in self.tokenizer.encode_batch(texts)]
        empty = next((number for number, ids in enumerate(rows, start=1) if not len(ids)), None)
        if empty is not None:
            raise DataError(
                f"text {empty} is empty, so that there is nothing to tell its label from; give each some words"
            )
        device = self.model.score.weight.device
        answers = torch.empty(len(rows), len(self.labels))
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        first = 0
        with torch.inference_mode():
            while first < len(order):  # texts of like length side by side, so that little is filling
                longest = len(rows[order[first]])
                chosen = order[first : first + max(1, TOKENS_AT_ONCE // longest)]
                first += len(chosen)
                tokens = torch.zeros(len(chosen), longest, dtype=torch.long)
                for row, i in enumerate(chosen):
                    tokens[row, : len(rows[i])] = torch.from_numpy(rows[i])
                ends = torch.tensor([len(rows[i]) - 1 for i in chosen])
                hidden = self.model.hidden(tokens.to(device))[torch.arange(len(chosen)), ends]  # (B, C)
                answers[chosen] = self.model.unembed(hidden).float().softmax(dim=-1).cpu()
                if report:
                    report(first / len(order))
        return answers


def load_classifier(
    path: str | Path | None = None, device: str = "auto", report: Callable[[str], object] = warnings.warn
) -> TextClassifier:
    """The best checkpoint of a run that was trained on labels (or one checkpoint folder; None: the newest run). `report` is
    handed a line where the best checkpoint is damaged."""
    checkpoint = load_checkpoint(find_checkpoint(Path(path) if path is not None else None, report))
    if not checkpoint.labels:
        raise ConfigError(
            f"{checkpoint.folder} was not trained on labels; teach it: "
            f"glassgpt train TEXTS.csv --from {as_argument(checkpoint.folder)}, with the columns text and label"
        )
    model = load_model(checkpoint, decide_device(device).choice)
    assert isinstance(model, Classifier)
    return TextClassifier(model, checkpoint.tokenizer())
