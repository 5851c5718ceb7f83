"""Heads whose habits are known, because they are made so."""

import pytest
import torch

from glassgpt.errors import ConfigError
from glassgpt.inspection import edited, head_scores
from glassgpt.model import ARCHITECTURES

from ..model.conftest import small


def habit(back):
    """Attention that looks at the position so far back, or at the first where there is none."""

    def weights(given):
        T = given.shape[-1]
        wanted = torch.zeros(T, T, dtype=given.dtype)
        for i in range(T):
            wanted[i, i - back if i >= back else 0] = 1
        return wanted.expand_as(given).clone()

    return weights


N = 5  # tokens that come twice: half of the context of 11


@pytest.mark.parametrize(
    ("back", "name"), [(1, "previous_token"), (N, "duplicate_token"), (N - 1, "induction"), (99, "first_token")]
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_of_one_habit_has_that_score(architecture, back, name):
    model = small(architecture, vocab_size=1000)  # in which nothing comes again by chance
    with edited(model, {"block.1.weights": habit(back)}):
        scores = head_scores(model)
    assert getattr(scores, name)[1].tolist() == pytest.approx([1.0] * model.config.n_head)
    others = [score[1] for other, score in scores._asdict().items() if other not in (name, "first_token")]
    assert all(not score.any() for score in others)
    assert all(score.shape == (2, model.config.n_head) and (score[0] < 1).all() for score in scores)


def test_a_head_that_spreads_its_weight_evenly_has_what_the_docstring_says():
    def evenly(given):
        even = torch.ones_like(given).tril()
        return even / even.sum(dim=-1, keepdim=True)

    expected = {1000: [0.038, 0.038, 0.014, 0.014], 10: [0.038, 0.038, 0.106, 0.106]}
    for vocab_size, values in expected.items():
        model = small(context_length=128, vocab_size=vocab_size)
        with edited(model, {"block.*.weights": evenly}):
            scores = head_scores(model)
        assert [score.mean().item() for score in scores] == pytest.approx(
            values, abs=0.006 if vocab_size == 10 else 0.001
        )


def by_content(tokens, after):
    """Attention that looks at every earlier place of its own token, or at what followed these."""

    def weights(given):
        same = (tokens[:, :, None] == tokens[:, None, :]).tril(-1)
        places = same.roll(after, dims=-1).tril(-1).to(given.dtype)
        places[..., 0] += places.sum(dim=-1) == 0
        return (places / places.sum(dim=-1, keepdim=True))[:, None].expand_as(given).clone()

    return weights


@pytest.mark.parametrize("vocab_size", [10, 1000])
@pytest.mark.parametrize(("after", "name"), [(0, "duplicate_token"), (1, "induction")])
def test_a_head_that_goes_by_content_has_all_of_that_score_in_a_small_vocabulary_too(vocab_size, after, name):
    model = small(context_length=120, vocab_size=vocab_size)
    read = []
    with edited(model, {"block.1.weights": lambda given: by_content(read[0], after)(given)}):
        hook = model.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        scores = head_scores(model)
        hook.remove()
    assert getattr(scores, name)[1].tolist() == pytest.approx([1.0] * model.config.n_head)
    (other,) = {"duplicate_token", "induction"} - {name}
    assert getattr(scores, other)[1].max() < (0.2 if vocab_size == 10 else 0.01)


def test_tokens_are_drawn_from_the_ids_that_are_given(model):
    read = []
    hook = model.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    head_scores(model, ids=[3, 7, 11])
    hook.remove()
    assert set(read[0].flatten().tolist()) == {3, 7, 11}
    with pytest.raises(ConfigError, match="there is no token 23"):
        head_scores(model, ids=[23])


def test_heads_are_told_apart_by_layer_and_number(model):
    def only_head_2(given):
        changed = given.clone()
        changed[:, 2] = habit(1)(given)[:, 2]
        return changed

    plain = head_scores(model).previous_token
    with edited(model, {"block.0.weights": only_head_2}):
        scores = head_scores(model).previous_token
    assert scores[0, 2] == 1
    untouched = [head for head in range(model.config.n_head) if head != 2]
    assert scores[0, untouched].equal(plain[0, untouched])


def test_a_context_without_room_for_a_repetition_is_refused():
    with pytest.raises(ConfigError, match="context_length 5 is too short to show heads a repetition; it takes 6"):
        head_scores(small(context_length=5))
