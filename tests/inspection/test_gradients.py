import pytest
import torch
import torch.nn.functional as F

from glassgpt.data import IGNORE_INDEX
from glassgpt.errors import ConfigError
from glassgpt.inspection import gradient_norms

from ..model.conftest import small


def test_the_norms_are_those_of_the_gradients_that_training_would_follow(model, tokens):
    found = gradient_norms(model, tokens)
    assert all(p.grad is None for p in model.parameters())
    F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    length = lambda parameters: sum(p.grad.square().sum().item() for p in parameters) ** 0.5  # noqa: E731
    assert [*found] == ["embedding", "block.0", "block.1", "head"]
    assert found["block.1"] == pytest.approx(length(model.blocks[1].parameters()))
    assert sum(norm**2 for norm in found.values()) ** 0.5 == pytest.approx(length(model.parameters()))


@pytest.mark.parametrize("tied", [True, False])
def test_an_output_matrix_of_its_own_is_the_heads(tokens, tied):
    model = small(tie_embeddings=tied)
    found = gradient_norms(model, tokens)
    F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    behind = [*model.final_norm.parameters()] + ([] if tied else [model.unembedding])
    assert found["head"] == pytest.approx(sum(p.grad.square().sum().item() for p in behind) ** 0.5)


def test_tokens_of_which_none_has_a_next_one_are_refused(model, tokens):
    with pytest.raises(ConfigError, match="T at least 2"):
        gradient_norms(model, tokens[:, :1])
    with pytest.raises(ConfigError, match="there is no token"):
        gradient_norms(model, tokens + model.config.vocab_size)


def test_it_is_of_the_targets_that_are_given(model, tokens):
    targets = tokens.roll(2, dims=1)
    targets[1:, 3:] = IGNORE_INDEX
    found = gradient_norms(model, tokens, targets)
    F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()
    whole = sum(p.grad.square().sum().item() for p in model.parameters()) ** 0.5
    assert sum(norm**2 for norm in found.values()) ** 0.5 == pytest.approx(whole)
    with pytest.raises(ConfigError, match="there is no token"):
        gradient_norms(model, tokens + model.config.vocab_size, targets)


def test_targets_that_are_none_are_refused(model, tokens):
    for wrong in (tokens[:, 1:], tokens.int(), tokens.tolist()):
        with pytest.raises(ConfigError, match=r"targets have to be a tensor \(5, 7\) of torch.int64"):
            gradient_norms(model, tokens, wrong)
    for id in (-1, model.config.vocab_size):
        wrong = tokens.clone()
        wrong[2, 3] = id
        with pytest.raises(ConfigError, match=f"there is no token {id};"):
            gradient_norms(model, tokens, wrong)
    with pytest.raises(ConfigError, match=f"every target is {IGNORE_INDEX}, which counts for nothing"):
        gradient_norms(model, tokens, torch.full_like(tokens, IGNORE_INDEX))


def test_a_model_built_in_inference_mode_has_no_gradient(tokens):
    with torch.inference_mode():
        model = small()
    with pytest.raises(ConfigError, match="built in inference mode"):
        gradient_norms(model, tokens)


def test_it_may_be_asked_for_in_inference_mode(model, tokens):
    with torch.inference_mode():
        assert gradient_norms(model, tokens.clone()) == gradient_norms(model, tokens)


def test_frozen_weights_are_frozen_again(model, tokens):
    expected = gradient_norms(model, tokens)
    model.requires_grad_(False)
    with torch.inference_mode(False):
        assert gradient_norms(model, tokens) == expected
    assert not any(p.requires_grad for p in model.parameters())
