"""Where knowledge sits, in a model in which it is known where it sits."""

import pytest
import torch

from glassgpt.errors import ConfigError
from glassgpt.inspection import Pair, attribute, capture, carried, edited
from glassgpt.model.classifier import Classifier

from ..model.conftest import small, some_tokens


def pair(differs_at=2, T=6):
    text = some_tokens(T)
    other = text.clone()
    other[differs_at] = (text[differs_at] + 5) % 23
    return Pair(text, 3, other, 4)


def test_a_text_that_differs_in_its_last_token_only_is_not_told_apart_by_attention_to_others(model):
    """With attention that looks at the first token only, all that differs goes through the stream and the MLPs."""

    def at_first(weights):
        weights = torch.zeros_like(weights)
        weights[..., 0] = 1
        return weights

    with edited(model, {f"block.{i}.weights": at_first for i in range(2)}):
        found = attribute(model, [pair(differs_at=5)])
    assert found.heads.abs().max() < 1e-9 and found.attention.abs().max() < 1e-9 and found.mlp.abs().max() > 1e-3


def test_what_an_attention_carries_alone_it_turns_round():
    """One layer without an MLP's word, a difference at an earlier position: only attention can bring it to the end."""
    model = small(n_layer=1)
    with edited(model, {"block.0.mlp": torch.zeros_like}):
        found = attribute(model, [pair(), pair(differs_at=0)])
    assert found.attention.item() == pytest.approx(1.0) and found.mlp.item() == pytest.approx(0.0)
    assert found.heads.shape == (1, 3) and found.heads.abs().max() > 0.05


def test_what_only_a_group_of_tokens_reaches_its_embedding_carries():
    """Nothing but embeddings, and a difference one token before the end: the token's own is the same there."""
    model = small("ngram", n_layer=1)
    with edited(model, {"block.0.attention": torch.zeros_like, "block.0.mlp": torch.zeros_like}):
        found = attribute(model, [pair(differs_at=4)])
        both = attribute(model, [pair(differs_at=4), pair(differs_at=3)])
    assert [*found.embedding] == ["embedding.token", "embedding.2-gram", "embedding.3-gram"]
    assert found.embedding["embedding.token"] == pytest.approx(0) and abs(found.embedding["embedding.2-gram"]) > 0.05
    assert not found.heads.any() and not found.mlp.any()
    assert both.embedding["embedding.2-gram"] != pytest.approx(found.embedding["embedding.2-gram"])
    assert not attribute(small("modern"), pair()).embedding


def test_the_preference_is_the_mean_difference_of_the_answers_logits(model):
    pairs = [pair(), pair(differs_at=1)]
    found = attribute(model, pairs)
    by_hand = []
    for one in pairs:
        for text, own, other in (
            (one.text, one.answer, one.other_answer),
            (one.other_text, one.other_answer, one.answer),
        ):
            logits = model(text[None])[0, -1]
            by_hand.append((logits[own] - logits[other]).item())
    assert found.preference == pytest.approx(sum(by_hand) / 4)
    assert found.right == sum(value > 0 for value in by_hand) / 4


def test_texts_of_different_lengths_are_no_pair(model):
    with pytest.raises(ConfigError, match="the texts of a pair have 6 and 5 tokens; they have to be equally long"):
        attribute(model, [pair()._replace(other_text=some_tokens(5))])
    with pytest.raises(ConfigError, match="there is no pair to probe with; give at least one"):
        attribute(model, [])
    same = pair()._replace(other_text=pair().text)
    for probe in (attribute, carried):
        for what, one in (("texts", same), ("answers", pair()._replace(other_answer=pair().answer))):
            with pytest.raises(ConfigError, match=f"the {what} of a pair have to differ"):
                probe(model, one)
        with pytest.raises(ConfigError, match="a text of a pair is empty"):
            probe(model, pair()._replace(text=pair().text[:0], other_text=pair().text[:0]))


def test_tokens_and_answers_that_are_none_of_the_models_are_refused(model):
    whole = pair()
    wrong = whole.text.clone()
    wrong[0] = 23
    for measure in (attribute, carried):
        with pytest.raises(ConfigError, match="there is no token 23; the model's are 0 to 22"):
            measure(model, whole._replace(text=wrong))
        with pytest.raises(ConfigError, match="there is no answer 23; this model's are 0 to 22"):
            measure(model, whole._replace(other_answer=23))
    labels = Classifier(model, ("bad", "good"))
    with pytest.raises(ConfigError, match="there is no answer 2; this model's are 0 to 1"):
        attribute(labels, whole._replace(answer=2, other_answer=0))


def test_labels_are_answers(model):
    labels = Classifier(model, ("bad", "good"))
    labels.init_score(seed=2)
    asked = pair()._replace(answer=1, other_answer=0)
    logits = labels(torch.stack((asked.text, asked.other_text)))[:, -1]
    expected = (logits[0, 1] - logits[0, 0] + logits[1, 0] - logits[1, 1]) / 2
    assert attribute(labels, asked).preference == pytest.approx(expected.item(), abs=1e-9)


def test_one_pair_needs_no_list(model):
    alone, listed = attribute(model, pair()), attribute(model, [pair()])
    assert alone.preference == listed.preference and torch.equal(alone.heads, listed.heads)


def test_parts_are_exchanged_one_at_a_time(model):
    """Against the plain way: one part of one text at a time, with an edit of its own."""
    one = pair()
    found = attribute(model, [one])
    tokens = torch.stack((one.text, one.other_text))
    there = capture(model, tokens.flip(0), ["block.*"])
    H = model.config.n_head

    def head_exchanged(name, head):
        def edit(heads):
            return torch.cat((heads[:, :head], there[name][:, head : head + 1], heads[:, head + 1 :]), dim=1)

        return edit

    def preference(edit):
        logits = capture(model, tokens, [], edit)["logits"][:, -1]
        turn = logits[:, one.answer] - logits[:, one.other_answer]
        return (turn[0] - turn[1]).item()

    def share(edit):
        return (preference({}) - preference(edit)) / (2 * preference({}))

    for i in range(2):
        expected = [share({f"block.{i}.heads": head_exchanged(f"block.{i}.heads", head)}) for head in range(H)]
        assert found.heads[i].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
        for part in ("attention", "mlp"):
            name = f"block.{i}.{part}"
            assert getattr(found, part)[i].item() == pytest.approx(
                share({name: lambda _, name=name: there[name]}), rel=1e-5
            )
