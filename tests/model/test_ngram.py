"""Embeddings of groups of neighbouring tokens, against their description in loops."""

import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.errors import ConfigError
from glassgpt.formats.huggingface_models import write_qwen3_config
from glassgpt.model import build_model
from glassgpt.model.ngram import NgramEmbedding
from glassgpt.model.size import count_parameters

from .conftest import small, some_tokens

V, C = 23, 5


def embedding(longest, rows):
    made = NgramEmbedding(longest, rows, V, C).double()
    torch.nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(3))
    return made


def described(made, row, before):
    """For one row of tokens, group by group."""
    text, out = [*before, *row], []
    for at in range(len(before), len(text)):
        total = torch.zeros(C, dtype=torch.float64)
        for n in range(2, made.longest + 1):
            group = [text[at - back] if at >= back else V for back in range(n)]  # the newest token first
            number = sum(token * (V + 1) ** place for place, token in enumerate(group))
            total += made.weight[(n - 2) * made.rows + number % made.rows]
        out.append(total)
    return torch.stack(out)


@pytest.mark.parametrize(("longest", "rows"), [(2, 24**2), (2, 7), (3, 101), (5, 61)])
@pytest.mark.parametrize("known", [0, 1, 2, 6])
def test_it_is_what_it_is_described_to_be(longest, rows, known):
    made, tokens = embedding(longest, rows), some_tokens(4, 6 + 8)
    before, rest = tokens[:, 6 - min(known, longest - 1) : 6], tokens[:, 6:]
    expected = torch.stack([described(made, r.tolist(), b.tolist()) for r, b in zip(rest, before, strict=True)])
    torch.testing.assert_close(made(rest, before), expected, rtol=0, atol=1e-12)


def test_with_rows_enough_no_group_shares_one():
    made = embedding(2, 24**2)
    pairs = torch.cartesian_prod(torch.arange(V), torch.arange(V))
    found = made(pairs[:, 1:], pairs[:, :1])[:, 0]
    assert len(found.unique(dim=0)) == V * V


@pytest.mark.parametrize("chunks", [[11], [1] * 11, [4, 1, 6], [1, 3, 7], [2, 2, 7]])
@pytest.mark.parametrize("n_gram", [2, 4])
def test_fed_in_pieces_through_the_cache_a_model_says_the_same(chunks, n_gram):
    model, tokens = small("ngram", n_gram=n_gram, n_gram_rows=50), some_tokens(5, 11)
    cache = model.new_cache(5)
    with torch.no_grad():
        pieces = [model(piece, cache) for piece in tokens.split(chunks, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=0, atol=1e-12)


def test_without_layers_to_look_back_a_model_still_knows_the_tokens_before():
    """What a group of three adds reaches two tokens back, and no further."""
    made, tokens = embedding(3, 10_007), some_tokens(1, 9)
    changed = tokens.clone()
    changed[0, 4] = (changed[0, 4] + 1) % V
    nothing = tokens[:, :0]
    differs = (made(tokens, nothing) != made(changed, nothing)).any(-1)[0]
    assert differs.tolist() == [False] * 4 + [True] * 3 + [False] * 2


def test_its_weights_are_counted():
    config = GPTConfig(
        architecture="ngram",
        vocab_size=23,
        context_length=11,
        n_layer=2,
        n_head=2,
        n_embd=12,
        n_gram=4,
        n_gram_rows=31,
    )
    model = build_model(config, seed=1)
    assert count_parameters(config).total == sum(p.numel() for p in model.parameters())
    assert model.model.embed_ngrams.weight.shape == (3 * 31, 12)
    assert 0.015 < model.model.embed_ngrams.weight.std() < 0.025


def test_what_has_no_place_for_them_says_so():
    with pytest.raises(ConfigError, match="n_gram 12 is more than context_length 11; lower it"):
        GPTConfig(architecture="ngram", context_length=11, n_gram=12)
    config = GPTConfig(architecture="ngram", vocab_size=9, context_length=11, n_gram=2)
    with pytest.raises(
        ConfigError, match="no format but GlassGPT's own knows architecture ngram; a model trained with"
    ):
        write_qwen3_config(config)
