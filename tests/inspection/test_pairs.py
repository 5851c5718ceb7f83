"""Minimal pairs as they are written, and what the page shows of them, against the library."""

import json

import pytest
import torch

from glassgpt.errors import ConfigError
from glassgpt.generate import Engine
from glassgpt.inspection import Pair, attribute, carried, look, read_pair
from glassgpt.inspection.pairs import MOST_POSITIONS, look_at_pair
from glassgpt.model import ARCHITECTURES
from glassgpt.tokenizer import build_tokenizer

from .test_look import PROMPT, engine_of, scatter

ONE, OTHER = "the cats s|o", "the cows s|e"


@pytest.fixture(params=ARCHITECTURES)
def engine(request):
    return engine_of(request.param)


def test_a_pair_is_its_texts_and_the_tokens_that_should_follow(engine):
    pair = read_pair(engine, ONE, OTHER)
    assert pair.text.tolist() == [*b"the cats s"] and pair.other_text.tolist() == [*b"the cows s"]
    assert (pair.answer, pair.other_answer) == (ord("o"), ord("e"))
    pair = read_pair(engine, "1|2|3", "1|4|5")  # what stands before the last | may have others
    assert pair.text.tolist() == [*b"1|2"] and pair.answer == ord("3")


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("the cats", OTHER, "'the cats' has to be a text, | and the token that should follow: --pair"),
        ("|o", OTHER, "'|o' has to be a text"),
        ("the cats|", OTHER, "'the cats|' has to be a text"),
        ("a b|o", "a|e", "equally many tokens, but [a][ ][b] is 3 and [a] is 1; change words one for one"),
        ("a|o", "a|e", "the texts of a pair have to differ, both are 'a'"),
        ("a|o", "b|o", "the answers of a pair have to differ"),
        ("a|of", "b|e", "'of' is 2 tokens to this model ([o][f]), an answer has to be one; move the | to before"),
        (
            "a" * 17 + "|o",
            "b" * 17 + "|e",
            "the texts of a pair are 17 tokens, the model sees 16 at once; shorten them",
        ),
    ],
)
def test_what_is_no_minimal_pair_is_said_in_a_sentence(one, other, message):
    with pytest.raises(ConfigError) as refused:
        read_pair(engine_of("gpt2"), one, other)
    assert message in str(refused.value)


def test_a_space_on_the_wrong_side_is_told():
    tokenizer = build_tokenizer("bpe", lambda: iter(["run the cat runs, run the cats run\n"] * 9), vocab_size=300)
    engine = Engine(engine_of("gpt2", vocab_size=300).model, tokenizer)
    assert read_pair(engine, "the cats| run", "the cat| runs").text.shape == (2,)
    with pytest.raises(
        ConfigError, match="'the cats run' as a whole is cut into other tokens than 'the cats ' and 'run'"
    ):
        read_pair(engine, "the cats |run", "the cat |runs")


def decided(engine):
    """A pair whose answers are the model's own likeliest after each text, so that it is known."""
    texts = torch.tensor([[*b"the cats s"], [*b"the cows s"]])
    last = engine.model(texts)[:, -1]
    answers = (last[0] - last[1]).argmax().item(), (last[1] - last[0]).argmax().item()
    return Pair(texts[0], answers[0], texts[1], answers[1])


def test_the_page_has_the_librarys_numbers(engine):
    scatter(engine)  # at their start weights prefer hardly anything
    pair = decided(engine)
    seen = []
    data = look(engine, engine.encode_prompt(PROMPT), lambda *progress: seen.append(progress), pairs=[pair])
    (shown,) = data["pairs"]
    logits = engine.model(torch.stack((pair.text, pair.other_text)))[:, -1].softmax(dim=-1)
    assert shown["probabilities"][1] == pytest.approx(logits[1, [pair.answer, pair.other_answer]].tolist(), rel=1e-5)
    assert (
        "".join(shown["texts"][1]) == "the cows s" and shown["differs"].index(True) == 5 and sum(shown["differs"]) == 2
    )
    found = attribute(engine.model, [pair])
    assert shown["known"] and shown["preference"] == pytest.approx(found.preference)
    for part in ("heads", "attention", "mlp"):
        assert torch.tensor(shown[part]).allclose(getattr(found, part), atol=1e-6)
    assert torch.tensor(shown["stream"]).allclose(carried(engine.model, pair), atol=1e-6)
    L = engine.model.config.n_layer
    assert [one for one in seen if "probing" in one[0]] == [
        ("probing with pair 1", done, L) for done in range(1, L + 1)
    ]
    json.dumps(data, allow_nan=False)


def test_of_what_is_not_known_nothing_is_attributed(engine):
    pair = decided(engine)
    turned = pair._replace(answer=pair.other_answer, other_answer=pair.answer)
    shown = look_at_pair(engine, turned, lambda done, of: None)
    assert not shown["known"] and shown["preference"] < 0
    assert all(shown[part] is None for part in ("heads", "attention", "mlp", "stream"))
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter.zero_()  # prefers nothing at all: no share may become 0 / 0
    json.dumps(look_at_pair(engine, pair, lambda done, of: None), allow_nan=False)


@pytest.mark.parametrize("both_right", [True, False])
def test_a_pair_of_which_one_text_is_answered_wrong_is_said_to_be(engine, both_right):
    """The texts change the odds of the answers, and the model prefers the same one after both all the same."""
    scatter(engine)
    pair = decided(engine)
    last = engine.model(torch.stack((pair.text, pair.other_text)))[:, -1]
    # (V, V): by how much each text prefers its own answer
    own, others = (one[:, None] - one for one in (last[0], -last[1]))
    wanted = (own > 0 if both_right else own < 0) & (others > 0)
    answer, other_answer = divmod(torch.where(wanted, own + others, -torch.inf).argmax().item(), len(own))
    chosen = pair._replace(answer=answer, other_answer=other_answer)
    found, shown = attribute(engine.model, [chosen]), look_at_pair(engine, chosen, lambda done, of: None)
    assert shown["known"] and found.right == (1.0 if both_right else 0.5)
    if both_right:
        about = f"Each text prefers its own answer, by {found.preference:.3g} nats on average. Parts that lie"
        assert shown["about"].startswith(about)
    else:
        assert "which is wrong" in shown["about"] and f"by {2 * found.preference:.3g} nats" in shown["about"]


def test_the_way_through_the_positions_of_a_long_pair_is_left_out():
    engine = engine_of("gpt2", context_length=64)
    with torch.no_grad():
        engine.model.wte.weight *= 20
    text = torch.randint(97, (MOST_POSITIONS + 1,), generator=torch.Generator().manual_seed(1))
    other = text.clone()
    other[-1] = 100
    last = engine.model(torch.stack((text, other)))[:, -1]
    answers = (last[0] - last[1]).argmax().item(), (last[1] - last[0]).argmax().item()
    shown = look_at_pair(engine, Pair(text, answers[0], other, answers[1]), lambda done, of: None)
    assert shown["known"] and shown["stream"] is None and shown["heads"] is not None
