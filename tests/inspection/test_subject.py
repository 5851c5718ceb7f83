"""What is looked into where a user says no more than which run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glassgpt.data import IGNORE_INDEX
from glassgpt.inspection import subject
from glassgpt.inspection.subject import validation_text, written_tokens

from .test_look import engine_of, scatter


def of_data(monkeypatch, length, marks):
    meta = SimpleNamespace(vocab_size=9)
    data = SimpleNamespace(val=np.arange(length, dtype="uint16"), meta=meta, val_marks=marks)
    monkeypatch.setattr(subject, "load_if_whole", lambda folder: data)
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=9, context_length=64))
    checkpoint = SimpleNamespace(state={"data_fingerprint": "abc"})
    return validation_text(checkpoint, SimpleNamespace(model=model, device="cpu"))


def test_of_conversations_the_answers_are_the_targets(monkeypatch):
    marks = np.arange(3000) % 3 == 0
    windows, targets = of_data(monkeypatch, 3000, marks.astype("uint8"))
    following = windows + 1
    assert targets.equal(torch.where((following < 3000) & (following % 3 == 0), following, IGNORE_INDEX))


@pytest.mark.parametrize("length", [50_000, 1024, 1000, 130, 5])
def test_contexts_are_windows_from_all_over_the_validation_text(monkeypatch, length):
    windows, targets = of_data(monkeypatch, length, None)
    assert targets.equal(torch.where(windows < length - 1, windows + 1, IGNORE_INDEX))
    assert windows.shape == (min(length, 1024) // min(64, length), min(64, length))
    assert (windows.diff(dim=1) == 1).all()  # each is a piece of the text
    begins = windows[:, 0]
    assert begins[0] == 0 and (len(begins) == 1 or windows[-1, -1] == length - 1)
    steps = begins.diff()
    assert (steps >= 64).all() and (len(steps) == 0 or steps.max() - steps.min() <= 1)


def test_what_a_model_writes_is_looked_at_as_it_wrote_it():
    """Bytes that are no whole character would be others once they had been text."""
    engine = engine_of("gpt2", context_length=64)
    scatter(engine)
    tokens = written_tokens(engine, 40)
    assert 10 < tokens.numel() <= 40
    text = engine.generate(max_new_tokens=40)
    assert engine.tokenizer.decode(tokens[0].tolist()) == text and "\ufffd" in text
    assert not torch.equal(engine.encode_prompt(text), tokens)


def test_a_model_that_ends_at_once_is_looked_at_where_it_began(monkeypatch):
    engine = engine_of("gpt2")
    monkeypatch.setattr(engine, "write_ids", lambda tokens, **settings: iter([[engine.tokenizer.end_of_text]]))
    assert written_tokens(engine, 40).tolist() == [[engine.tokenizer.end_of_text]]
