"""The loss without a part, against a model whose weights lack it."""

import copy

import pytest
import torch
import torch.nn.functional as F

from glassgpt.errors import ConfigError
from glassgpt.inspection import ablate
from glassgpt.inspection.capture import ATTENTION, LAST_OF_ATTENTION, LAST_OF_MLP, MLP, child_of, embedding_parts
from glassgpt.train.recompute import recompute_blocks

from ..model.conftest import small


def loss_of(model, tokens):
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).item()


def test_the_loss_without_a_head_is_that_of_a_model_whose_projection_ignores_it(model, tokens):
    seen = []
    found = ablate(model, tokens, lambda done, of: seen.append((done, of)))
    L, H, D = model.config.n_layer, model.config.n_head, model.config.head_width
    assert found.heads.shape == (L, H) and found.attention.shape == found.mlp.shape == (L,)
    assert abs(found.loss - loss_of(model, tokens)) < 1e-6
    for layer, head in ((0, 0), (1, 2)):
        other = copy.deepcopy(model)
        with torch.no_grad():
            projection = child_of(child_of(other.blocks[layer], ATTENTION), LAST_OF_ATTENTION)
            projection.weight[:, head * D : (head + 1) * D] = 0
        assert abs(found.heads[layer, head].item() - (loss_of(other, tokens) - found.loss)) < 1e-5
    parts = L * H + 2 * L + len(found.embedding)
    assert seen == [(n, 1 + parts) for n in range(1, 2 + parts)]


def test_the_loss_without_a_sublayer_is_that_of_a_model_that_writes_nothing_there(model, tokens):
    found = ablate(model, tokens)
    for part, names in (("attention", (ATTENTION, LAST_OF_ATTENTION)), ("mlp", (MLP, LAST_OF_MLP))):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for p in child_of(child_of(other.blocks[1], names[0]), names[1]).parameters():
                p.zero_()
        assert abs(getattr(found, part)[1].item() - (loss_of(other, tokens) - found.loss)) < 1e-5


def test_the_loss_without_n_grams_of_one_length_is_that_of_a_model_whose_rows_for_them_are_zero(tokens):
    model = small("ngram")
    found = ablate(model, tokens)
    assert [*found.embedding] == ["embedding.token", "embedding.2-gram", "embedding.3-gram"]
    for n in (2, 3):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.model.embed_ngrams.weight[50 * (n - 2) : 50 * (n - 1)] = 0
        assert found.embedding[f"embedding.{n}-gram"] == pytest.approx(loss_of(other, tokens) - found.loss, abs=1e-5)
        assert abs(found.embedding[f"embedding.{n}-gram"]) > 1e-3
    assert not ablate(small("modern"), tokens).embedding  # without its only embedding it has nothing to read


def test_the_model_is_as_before_and_no_block_before_the_part_is_computed_again(model, tokens):
    runs = []
    hooks = [
        child_of(block, ATTENTION).register_forward_hook(lambda *_, i=i: runs.append(i))
        for i, block in enumerate(model.blocks)
    ]
    before = [dict(vars(block)) for block in model.blocks]
    whole = model(tokens)
    runs.clear()
    ablate(model, tokens)
    for hook in hooks:
        hook.remove()
    L, parts = len(model.blocks), model.config.n_head + 2
    of_all = 1 + len(embedding_parts(model))  # the model as it is, and without a part of what it reads
    assert [runs.count(i) for i in range(L)] == [of_all + parts * (i + 1) for i in range(L)]
    assert [vars(block).keys() for block in model.blocks] == [found.keys() for found in before]
    assert torch.equal(model(tokens), whole)


def test_a_loss_needs_a_next_token(model, tokens):
    with pytest.raises(ConfigError, match="T at least 2"):
        ablate(model, tokens[:, :1])
    for wrong in (tokens[0], tokens.tolist()):
        with pytest.raises(ConfigError, match="tokens have to be a tensor"):
            ablate(model, wrong)


def test_a_last_token_that_the_model_does_not_have_is_refused(model, tokens):
    """It is never read, and the loss asks for it."""
    tokens[0, -1] = model.config.vocab_size
    with pytest.raises(ConfigError, match=f"there is no token {model.config.vocab_size}"):
        ablate(model, tokens)


def test_blocks_that_gradient_checkpointing_runs_are_left_as_they_were(model, tokens):
    recompute_blocks(model)
    before = [block.forward for block in model.blocks]
    ablate(model, tokens)
    assert [block.forward for block in model.blocks] == before
