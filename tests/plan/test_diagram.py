import re

import pytest

from glassgpt.config import GPTConfig
from glassgpt.model import ARCHITECTURES
from glassgpt.model.size import count_parameters
from glassgpt.plan.diagram import WIDTH, diagram

SHAPE = {"vocab_size": 3001, "context_length": 40, "n_layer": 5, "n_head": 6, "n_embd": 48, "n_inner": 112}


def numbers(lines):
    return [int(found[1].replace(",", "")) for line in lines if (found := re.search(r"·\s+([\d,]+)(?: each)?$", line))]


@pytest.mark.parametrize("more", [{}, {"tie_embeddings": False}])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_its_numbers_add_up_to_the_model(architecture, more):
    c = GPTConfig(architecture=architecture, **SHAPE | more)
    lines = diagram(c, 3)
    first = next(i for i, line in enumerate(lines) if "block, 5 times" in line)
    last = next(i for i, line in enumerate(lines) if line.startswith("└─"))
    (each, *inside), outside = numbers(lines[first:last]), numbers(lines[:first]) + numbers(lines[last:])
    assert each == sum(inside)
    assert sum(outside) + 5 * each == count_parameters(c).total
    assert max(len(line) for line in lines) <= WIDTH + 8


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_shows_the_shapes_of_this_model(architecture):
    c = GPTConfig(architecture=architecture, **SHAPE)
    text = "\n".join(diagram(c, 3))
    for shape in ("tokens (3, 40)", "(3, 40, 48)", "q (3, 6, 40, 8)", "neurons (3, 40, 112)", "logits (3, 40, 3001)"):
        assert shape in text


def test_a_classifier_scores_labels():
    text = "\n".join(diagram(GPTConfig(**SHAPE), 3, is_classifier=True))
    assert "output layer, 48 for each label" in text and "logits (3, labels)" in text and "tied" not in text


def test_it_shows_what_an_experiment_changes():
    pre = diagram(GPTConfig(architecture="textbook", **SHAPE), 1)
    post = diagram(GPTConfig(architecture="textbook", norm_position="post", **SHAPE), 1)
    plain = diagram(GPTConfig(architecture="textbook", residual=False, **SHAPE), 1)
    where = [next(i for i, line in enumerate(lines) if "LayerNorm" in line) for lines in (pre, post)]
    sums = [next(i for i, line in enumerate(lines) if "+" in line) for lines in (pre, post)]
    assert where[0] < sums[0] and where[1] > sums[1]  # post: of the sum, as in Vaswani et al. 2017
    attention = [next(i for i, line in enumerate(lines) if "attention" in line) for lines in (pre, post)]
    assert where[0] < attention[0] and where[1] > attention[1]
    assert any("+" in line for line in pre) and not any("+" in line for line in plain)
    grouped = "\n".join(diagram(GPTConfig(architecture="modern", n_kv_head=2, **SHAPE), 1))
    assert "2 of keys" in grouped and "k, v (1, 2, 40, 8)" in grouped
