"""The body as it was, and a row a label."""

import torch

from glassgpt.config import GPTConfig
from glassgpt.model import build_model
from glassgpt.model.classifier import Classifier

SHAPE = {"vocab_size": 23, "context_length": 11, "n_layer": 2, "n_head": 2, "n_embd": 16}
LABELS = ("a", "b", "c")


def build(seed=1, **more):
    classifier = Classifier(build_model(GPTConfig(**SHAPE | more), seed=3), LABELS)
    classifier.init_score(seed)
    return classifier.eval()


def test_a_label_is_read_from_what_the_body_makes_of_a_token():
    body = build_model(GPTConfig(**SHAPE), seed=3).eval()
    tokens = torch.arange(22).reshape(2, 11)
    classifier = build()
    assert torch.equal(classifier.hidden(tokens), body.hidden(tokens))
    assert classifier(tokens).shape == (2, 11, 3)
    assert torch.allclose(classifier(tokens), body.hidden(tokens) @ classifier.score.weight.T, atol=1e-6)


def test_the_head_is_drawn_from_the_seed_and_nothing_else():
    first, again, other = (build(seed).score.weight for seed in (1, 1, 2))
    torch.manual_seed(9)
    assert torch.equal(first, again) and torch.equal(first, build(1).score.weight) and not torch.equal(first, other)
    assert 0.01 < first.std() < 0.03


def test_cached_is_uncached():
    classifier, tokens = build(), torch.arange(10).reshape(2, 5)
    cache = classifier.new_cache(2)
    pieces = torch.cat([classifier(tokens[:, :3], cache), classifier(tokens[:, 3:], cache)], dim=1)
    assert torch.allclose(pieces, classifier(tokens), atol=1e-6)


def test_an_output_matrix_for_tokens_goes():
    names = dict(build(tie_embeddings=False).named_parameters()).keys()
    assert names == dict(build().named_parameters()).keys() and "body.lm_head.weight" not in names
