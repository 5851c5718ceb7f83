import math

import numpy as np
import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.data import prepare, validation_windows
from glassgpt.model import build_model
from glassgpt.train.evaluate import evaluate, score
from glassgpt.train.replicas import Replicas


@pytest.fixture
def model():
    config = GPTConfig(vocab_size=257, context_length=9, n_layer=2, n_head=2, n_embd=16, dropout=0.5)
    return build_model(config, seed=2)


def scored(model, tokens, rows=7):
    return score(Replicas(model), validation_windows(tokens, 9, rows), torch.device("cpu"), "float32")


def test_every_token_but_the_first_is_scored_once_in_its_own_window(model):
    tokens = np.random.default_rng(1).integers(257, size=9 * 3 + 5).astype(np.uint16)
    nats, targets = scored(model, tokens)
    expected = 0.0
    model.eval()
    for start in range(0, len(tokens) - 1, 9):
        window = torch.from_numpy(tokens[start : start + 10].astype(np.int64))
        log_p = model(window[None, :-1])[0].log_softmax(-1)
        expected -= log_p[torch.arange(len(window) - 1), window[1:]].sum().item()
    assert targets == len(tokens) - 1
    assert nats == pytest.approx(expected, rel=1e-5)


def test_how_many_windows_go_through_at_once_changes_nothing(model):
    tokens = np.random.default_rng(1).integers(257, size=9 * 7 + 5).astype(np.uint16)
    nats, targets = zip(*(scored(model, tokens, rows) for rows in (1, 3, 900)), strict=True)
    assert set(targets) == {len(tokens) - 1}
    assert nats == pytest.approx([nats[0]] * 3, rel=1e-5)


def test_dropout_is_off_and_comes_back(model):
    tokens = np.arange(40, dtype=np.uint16)
    model.train()
    assert scored(model, tokens) == scored(model, tokens)
    assert model.training


def test_bits_a_byte_counts_separators_as_cost_and_only_text_as_bytes(model, tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"document {i} ünï " * 3, encoding="utf-8")
    data = prepare([str(tmp_path)], tmp_path / "out", "byte")
    assert data.meta.val.documents > 1
    result = evaluate(model, data, torch.device("cpu"), "float32")
    nats, targets = scored(model, data.val)
    text_bytes = sum(int(b) for b in data.val_documents[:, 1])
    assert targets == text_bytes + data.meta.val.documents - 1 - 1  # separators, less the first token
    assert result["bits_per_byte"] == pytest.approx(nats / math.log(2) / (text_bytes - 1))
    assert result["val_loss"] == pytest.approx(nats / targets)
