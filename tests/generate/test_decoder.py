"""Cached or not, within the context or past it: the same ids."""

from functools import partial
from itertools import islice

import pytest
import torch

from glassgpt.generate import decode, sample

from .conftest import small


def greedy(logits):
    return logits.argmax(-1)


def drawn(seed=3):
    return partial(sample, generator=torch.Generator().manual_seed(seed), temperature=1.3, top_k=9, top_p=0.9)


def write(model, tokens, n, choose, cached=True):
    """(B, n)"""
    return torch.stack(list(islice(decode(model, tokens, choose, cached), n)), dim=1)


def prompts(rows, length):
    return torch.randint(23, (rows, length), generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("length", [1, 4, 10, 11, 12, 30])
@pytest.mark.parametrize("rows", [1, 3])
def test_cached_and_uncached_write_the_same_far_past_the_context(architecture, rows, length):
    model, tokens = small(architecture), prompts(rows, length)
    for chooser in (lambda: greedy, drawn):
        cached = write(model, tokens, 25, chooser())
        assert cached.shape == (rows, 25)
        assert torch.equal(cached, write(model, tokens, 25, chooser(), cached=False))
    assert len(set(cached.flatten().tolist())) > 5  # not the same token for ever, on which all would agree


@pytest.mark.parametrize("length", [3, 17])
@pytest.mark.parametrize("cached", [True, False])
def test_each_token_is_the_likeliest_after_the_last_context_length_tokens(architecture, cached, length):
    model, tokens = small(architecture), prompts(3, length)
    for new in islice(decode(model, tokens, greedy, cached), 25):
        with torch.no_grad():
            logits = model(tokens[:, -11:])[:, -1]
        assert torch.equal(new, logits.argmax(-1))
        tokens = torch.cat([tokens, new[:, None]], dim=1)


def test_within_the_context_a_token_costs_one_position(architecture, monkeypatch):
    model, tokens = small(architecture), prompts(3, 4)
    lengths, hidden = [], model.hidden
    monkeypatch.setattr(model, "hidden", lambda t, *cache: (lengths.append(t.shape[1]), hidden(t, *cache))[1])
    write(model, tokens, 10, greedy)
    assert lengths == [4, 1, 1, 1, 1, 1, 1, 1, 11, 11]
    lengths.clear()
    write(model, tokens, 10, greedy, cached=False)
    assert lengths == [4, 5, 6, 7, 8, 9, 10, 11, 11, 11]


def test_only_the_last_position_is_unembedded(architecture, monkeypatch):
    model, shapes = small(architecture), []
    unembed = model.unembed
    monkeypatch.setattr(model, "unembed", lambda h: (shapes.append(tuple(h.shape)), unembed(h))[1])
    write(model, prompts(3, 4), 9, greedy)
    assert shapes == [(3, 36)] * 9


def test_no_gradient_is_kept_while_writing(architecture):
    seen = []
    write(small(architecture), prompts(3, 4), 9, lambda logits: (seen.append(logits.requires_grad), greedy(logits))[1])
    assert seen == [False] * 9


def test_rows_written_together_are_those_written_alone(architecture):
    model, tokens = small(architecture).double(), prompts(3, 5)
    together = write(model, tokens, 14, greedy)
    for row in range(3):
        assert torch.equal(together[row : row + 1], write(model, tokens[row : row + 1], 14, greedy))


def test_writing_changes_neither_the_prompt_nor_the_weights_nor_the_global_generator(architecture):
    model, tokens = small(architecture), prompts(3, 5)
    weights, prompt = {name: p.clone() for name, p in model.state_dict().items()}, tokens.clone()
    torch.manual_seed(77)
    state = torch.get_rng_state()
    write(model, tokens, 14, drawn())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(tokens, prompt)
    for name, p in model.state_dict().items():
        assert torch.equal(p, weights[name])
    assert all(p.grad is None for p in model.parameters())
    model(tokens).sum().backward()  # and the weights can still be trained
