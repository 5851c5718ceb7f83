"""The neurons of the page, against all of them."""

import pytest
import torch

from glassgpt.data import Batch
from glassgpt.inspection import capture, contributions, look, neuron_writes, parts, stages
from glassgpt.inspection.capture import last_of_mlp
from glassgpt.inspection.memories import KEYS, NEURONS, VALUES, about_signs
from glassgpt.inspection.stream import through_norm
from glassgpt.model import ARCHITECTURES

from .test_look import PROMPT, engine_of, scatter


@pytest.fixture(params=ARCHITECTURES)
def engine(request):
    engine = engine_of(request.param)
    scatter(engine)
    return engine


def neurons_of(engine, tokens, layer):
    with torch.inference_mode():
        return capture(engine.model, tokens, [f"block.{layer}.neurons"])[f"block.{layer}.neurons"]


def test_they_are_those_that_write_most_for_the_expected_token(engine):
    """Without one of them, and the last norm as it came out, the logit lacks what it adds."""
    data, tokens = look(engine, engine.encode_prompt(PROMPT)), engine.encode_prompt(PROMPT)
    with torch.inference_mode():
        found = capture(engine.model, tokens, [*parts(engine.model), *stages(engine.model)])
        expected = found["logits"][0, -1].argmax()
        L = engine.model.config.n_layer
        assert sorted(neuron["layer"] for neuron in data["neurons"]) == [i for i in range(L) for _ in range(NEURONS)]
        strengths = [neuron["adds"] for neuron in data["neurons"]]
        assert strengths == sorted(strengths, reverse=True)
        for i in range(L):
            neurons, matrix = neurons_of(engine, tokens, i)[0, -1], last_of_mlp(engine.model.blocks[i]).weight
            adds = [
                float(
                    through_norm(
                        engine.model.final_norm, neurons[n] * matrix[:, n], found[stages(engine.model)[-1]][0, -1]
                    )
                    @ engine.model.unembedding[expected]
                )
                for n in range(len(neurons))
            ]
            best = sorted(range(len(adds)), key=lambda n: -adds[n])[:NEURONS]
            there = [neuron for neuron in data["neurons"] if neuron["layer"] == i]
            assert [neuron["neuron"] for neuron in there] == best
            assert [neuron["adds"] for neuron in there] == pytest.approx([adds[n] for n in best], rel=1e-3)
            assert [neuron["activation"] for neuron in there] == pytest.approx(neurons[best].tolist(), rel=1e-4)
            assert sum(adds) == pytest.approx(
                contributions(engine.model, found, expected.expand(1, tokens.shape[1]))[f"block.{i}.mlp"][0, -1].item()
                - bias_of(engine, i, found, expected), abs=1e-3,
            )  # fmt: skip


def bias_of(engine, layer, found, expected):
    bias = last_of_mlp(engine.model.blocks[layer]).bias
    if bias is None:
        return 0
    stream = found[stages(engine.model)[-1]][0, -1]
    return float(through_norm(engine.model.final_norm, bias, stream) @ engine.model.unembedding[expected])


def side(engine, neuron):
    """Of 0, on which its contexts are looked for."""
    return -1 if engine.model.config.is_modern and neuron["activation"] < 0 else 1


@pytest.mark.parametrize("given", [True, False])
def test_keys_are_found_in_the_contexts_that_are_given_or_in_the_prompt(engine, given):
    contexts = torch.randint(97, 122, (3, 9), generator=torch.Generator().manual_seed(2))
    data = look(engine, engine.encode_prompt(PROMPT), contexts=Batch(contexts, contexts) if given else None)
    assert data["contexts"] == (27 if given else 0)
    read = contexts if given else engine.encode_prompt(PROMPT)
    for neuron in data["neurons"]:
        values = neurons_of(engine, read, neuron["layer"])[..., neuron["neuron"]]
        sign = side(engine, neuron)
        top = (sign * values).flatten().topk(KEYS)
        excited = [sign * value for value in top.values.tolist() if value > 0]
        assert [key["activation"] for key in neuron["keys"]] == pytest.approx(excited, rel=1e-4)
        if given and excited:
            row, position = divmod(int(top.indices[0]), 9)
            first = neuron["keys"][0]
            assert first["before"] + first["text"] == bytes(contexts[row, : position + 1].tolist()).decode()


def test_values_are_the_tokens_that_it_writes_for(engine):
    data, gated = look(engine, engine.encode_prompt(PROMPT)), engine.model.config.is_modern
    below = [neuron for neuron in data["neurons"] if neuron["activation"] < 0]
    assert below and [neuron for neuron in data["neurons"] if neuron["against"]] == ([] if gated else below)
    said = "is active far below 0 as well as far above" if gated else "A neuron below 0 is not excited"
    assert said in data["signs"]
    assert about_signs([neuron for neuron in data["neurons"] if neuron not in below]) == ""
    model, tokens = engine.model, engine.encode_prompt(PROMPT)
    with torch.inference_mode():
        end = capture(model, tokens, stages(model)[-1])[stages(model)[-1]][0, -1]
    for neuron in data["neurons"]:
        writes = side(engine, neuron) * neuron_writes(model, neuron["layer"], stream=end)[neuron["neuron"]]
        ids = writes[: engine.tokenizer.vocab_size].topk(VALUES).indices.tolist()
        assert len(neuron["values"]) == VALUES
        for id, text in zip(ids, neuron["values"], strict=True):
            assert text in (chr(id), f"<{id:02x}>", "<|endoftext|>")


@pytest.mark.parametrize("architecture", ["modern", "ngram"])
def test_the_sign_of_a_gated_neuron_is_a_convention(architecture):
    """The same model, written with every neuron's sign turned round, has the same keys and values."""
    engine = engine_of(architecture)
    scatter(engine)
    before = look(engine, engine.encode_prompt(PROMPT))["neurons"]
    with torch.no_grad():
        for block in engine.model.blocks:
            block.mlp.up_proj.weight.neg_()
            block.mlp.down_proj.weight.neg_()
    after = look(engine, engine.encode_prompt(PROMPT))["neurons"]
    assert len({neuron["activation"] < 0 for neuron in before}) == 2
    for one, other in zip(before, after, strict=True):
        assert one["activation"] == -other["activation"] and one["adds"] == other["adds"]
        assert [(key["text"], key["activation"]) for key in one["keys"]] == [
            (key["text"], -key["activation"]) for key in other["keys"]
        ]
        assert one["values"] == other["values"]


def test_where_the_stream_is_no_sum_they_are_those_furthest_from_0():
    engine = engine_of("textbook", norm_position="post")
    data = look(engine, engine.encode_prompt(PROMPT))
    neurons = neurons_of(engine, engine.encode_prompt(PROMPT), 1)[0, -1]
    there = [neuron for neuron in data["neurons"] if neuron["layer"] == 1]
    assert [neuron["neuron"] for neuron in there] == neurons.abs().topk(NEURONS).indices.tolist()
    assert all(neuron["adds"] is None for neuron in there)
    strengths = [abs(neuron["activation"]) for neuron in data["neurons"]]
    assert strengths == sorted(strengths, reverse=True)
