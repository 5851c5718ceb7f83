"""The numbers of the page, against the model's own."""

import base64
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from glassgpt.data import IGNORE_INDEX, Batch
from glassgpt.errors import ConfigError
from glassgpt.generate import Engine
from glassgpt.inspection import Pair, ablate, capture, findings, gradient_norms, look, parts, stages, strongest
from glassgpt.inspection.capture import embedding_parts
from glassgpt.inspection.look import histogram, opposed
from glassgpt.inspection.trace_page import traced
from glassgpt.inspection.words import end_of, part_name, token_text
from glassgpt.model import ARCHITECTURES, build_model
from glassgpt.model.classifier import Classifier
from glassgpt.tokenizer import build_tokenizer

from ..model.conftest import SHAPES

PROMPT = "ab <b>&ü\nab"


def engine_of(architecture, **changes):
    from glassgpt.config import GPTConfig

    tokenizer = build_tokenizer("byte", lambda: iter(()))
    shape = SHAPES[architecture] | {"vocab_size": tokenizer.vocab_size, "context_length": 16} | changes
    return Engine(build_model(GPTConfig(architecture=architecture, **shape), seed=3), tokenizer)


def scatter(engine):
    """Its weights far from their start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(params=ARCHITECTURES)
def engine(request):
    return engine_of(request.param)


def test_the_numbers_are_the_models_own(engine):
    data = look(engine, engine.encode_prompt(PROMPT))
    tokens = engine.encode_prompt(PROMPT)
    T, config = tokens.shape[1], engine.model.config
    with torch.inference_mode():
        logits = engine.model(tokens)[0]
    probabilities = logits.softmax(dim=-1)
    assert [token["id"] for token in data["tokens"]] == tokens[0].tolist()
    for t, token in enumerate(data["tokens"][1:]):
        expected = probabilities[t, token["id"]]
        assert token["probability"] == pytest.approx(expected.item(), rel=1e-6)
        assert token["rank"] == 1 + int((probabilities[t] > expected).sum())
        shares = [p for _, p in token["alternatives"]]
        assert (
            len(shares) == 8
            and shares == sorted(shares, reverse=True)
            and shares[0] == pytest.approx(probabilities[t].max().item())
        )
    assert data["next"][0][1] == pytest.approx(probabilities[-1].max().item())
    weights = np.frombuffer(base64.b64decode(data["attention"]), np.uint8).reshape(config.n_layer, config.n_head, T, T)
    found = capture(engine.model, tokens, ["block.*.weights", "block.*"])
    assert np.abs(weights[1] / 255 - found["block.1.weights"][0].sqrt().detach().numpy()).max() < 0.51 / 255
    assert data["norms"][2] == pytest.approx(found["block.1"][0].norm(dim=-1).tolist(), rel=1e-5)
    embedding, *_, last = stages(engine.model)
    stream = capture(engine.model, tokens, stages(engine.model))
    cosines = torch.cosine_similarity(stream[embedding][0], stream[last][0], dim=-1)
    assert data["cosine_with_end"][0] == pytest.approx(cosines.tolist(), abs=1e-5)
    assert data["cosine_with_end"][-1] == pytest.approx([1.0] * T)
    assert data["lens"][-1][2][1] == pytest.approx(probabilities[2].max().item(), rel=1e-4)
    assert data["lens"][-1][2][2] == pytest.approx(data["tokens"][3]["probability"], rel=1e-4)
    assert data["ablation"]["loss"] == pytest.approx(ablate(engine.model, tokens).loss)
    assert len(data["heads"]["induction"]) == config.n_layer and next(iter(data["gradients"])) == "embedding"
    written = data["contributions"]
    target = tokens[0, 4].item()
    assert sum(row[3] for row in written.values()) == pytest.approx(logits[3, target].item(), abs=1e-4)
    assert (data["positions"] is None) == config.is_modern
    json.dumps(data, allow_nan=False)


def test_every_token_has_a_text_that_can_be_told(engine):
    texts = [token["text"] for token in look(engine, engine.encode_prompt(PROMPT))["tokens"]]
    assert texts[:8] == ["a", "b", " ", "<", "b", ">", "&", "<c3>"] and "\n" in texts


def test_what_is_no_whole_character_is_shown_as_bytes_and_the_rest_of_its_token_as_text():
    tokens = [
        b" \xe2\x80",
        b"\x93 a",
        b"\x1b[0m",
        "\u00e9".encode(),
        "\N{REPLACEMENT CHARACTER}".encode(),
        b"\xff\xe6\n",
    ]
    engine = SimpleNamespace(tokenizer=SimpleNamespace(vocab_size=6, token_bytes=tokens.__getitem__))
    shown = [" <e2><80>", "<93> a", "<1b>[0m", "\u00e9", "\N{REPLACEMENT CHARACTER}", "<ff><e6>\n"]
    assert [token_text(engine, id) for id in range(6)] == shown
    assert token_text(engine, 6) == end_of(engine, [6], 3) == "<6>"
    assert end_of(engine, [3, 0, 1], 4) == " \N{EN DASH} a"
    assert end_of(engine, [3, 0], 3) == " <e2><80>"


def test_parts_are_ranked_from_both_ends():
    values = {"heads": [[0.5, -0.25], [0.0, 3.0]], "attention": [-1.0, 2.0], "mlp": [0.125, -0.5]}
    values["embedding"] = {"embedding.2-gram": 0.75}
    assert strongest(values, 4) == [*strongest(values, 2), (0.75, "2-gram embedding"), (0.5, "layer 0, head 0")]
    values["embedding"] = {}
    assert strongest(values, 3) == [(3.0, "layer 1, head 1"), (2.0, "layer 1, attention"), (0.5, "layer 0, head 0")]
    assert opposed(values, 2) == [(-1.0, "layer 0, attention"), (-0.5, "layer 1, MLP")]
    assert opposed(values) == [*opposed(values, 2), (-0.25, "layer 0, head 1")]


def test_of_a_long_prompt_the_end_is_shown(engine):
    data = look(engine, engine.encode_prompt("0123456789" * 3))
    assert (data["model"]["given"], data["model"]["shown"]) == (30, 16)
    assert "".join(token["text"] for token in data["tokens"]) == "4567890123456789"


def test_of_one_token_there_is_all_but_what_takes_a_loss(engine):
    data = look(engine, engine.encode_prompt("a"))
    assert data["ablation"] is None and data["gradients"] is None
    assert [token["text"] for token in data["tokens"]] == ["a"] and len(data["next"]) == 8
    with torch.inference_mode():
        probabilities = engine.model(engine.encode_prompt("a"))[0, -1].softmax(dim=-1)
    assert data["next"][0][1] == pytest.approx(probabilities.max().item()) == data["lens"][-1][0][1]
    assert data["neurons"] and data["heads"] and [len(row) for row in data["norms"]] == [1] * 3
    json.dumps(data, allow_nan=False)
    found = findings(data)
    assert found["loss"] is None and found["strongest"] == found["opposed"] == [] and len(found["lens"]) == 3


def called(norms):
    return {part_name(name): norm for name, norm in norms.items()}


def test_the_gradient_is_that_of_the_contexts_where_there_are_some(engine):
    tokens = engine.encode_prompt(PROMPT)
    read = torch.tensor([[1, 7, 4, 9], [3, 3, 200, 8], [5, 6, 1, 2]])
    contexts = Batch(read, read.roll(1, 1).index_fill(1, torch.tensor([2]), IGNORE_INDEX))
    of = {"what": "contexts", "targets": 9}
    said = []
    data = look(engine, tokens, lambda *progress: said.append(progress), contexts=contexts)
    assert data["gradients"] == pytest.approx(called(gradient_norms(engine.model, *contexts)))
    assert data["gradients_of"] == of and [*data["gradients"]] == ["embedding", "layer 0", "layer 1", "output layer"]
    assert said[-2:] == [("following the gradient", 0, 1), ("following the gradient", 1, 1)]
    assert look(engine, tokens[:, :1], contexts=contexts)["gradients_of"] == of
    unanswered = contexts._replace(targets=torch.full((3, 4), IGNORE_INDEX))
    for none in (None, unanswered):
        data = look(engine, tokens, contexts=none)
        assert data["gradients"] == pytest.approx(called(gradient_norms(engine.model, tokens)))
        assert data["gradients_of"] == {"what": "prompt", "targets": 11}
    assert look(engine, tokens[:, :1], contexts=unanswered)["gradients_of"] is None


def test_a_norm_without_a_bias_adds_none(engine):
    names = {*look(engine, engine.encode_prompt(PROMPT))["contributions"]}
    assert ("bias" in names) == (getattr(engine.model.final_norm, "bias", None) is not None)
    assert names - {"bias"} == {part_name(name) for name in parts(engine.model)}


def test_parts_are_called_by_their_layer(engine):
    embedding = [part_name(name) for name in embedding_parts(engine.model)] or ["embedding"]
    layers = [f"layer {i}, {part}" for i in range(2) for part in ("attention", "MLP")]
    data = look(engine, engine.encode_prompt(PROMPT))
    assert data["parts"] == [*embedding, *layers] and data["stages"] == ["embedding", "layer 0", "layer 1"]
    assert part_name("embedding.2-gram") == "2-gram embedding"


def test_a_model_in_half_precision_is_looked_into(engine):
    tokens = engine.encode_prompt(PROMPT)
    whole = look(engine, tokens)
    engine.model.bfloat16()
    half = look(
        engine, tokens, pairs=[Pair(tokens[0], 98, tokens[0].flip(0), 99)], contexts=Batch(tokens, tokens.roll(-1, 1))
    )
    assert half["ablation"]["loss"] == pytest.approx(whole["ablation"]["loss"], rel=0.02)
    assert half["lens"][-1][-1][1] == pytest.approx(half["next"][0][1], rel=0.02)
    json.dumps(half, allow_nan=False)


def test_what_expects_no_next_token_or_reads_other_ones_is_refused(engine):
    with pytest.raises(ConfigError, match="there is no token 99999"):
        look(engine, torch.tensor([[1, 99999]]))
    with pytest.raises(ConfigError, match="tokens have to be a tensor"):
        look(engine, PROMPT)
    for one in (look, traced):
        with pytest.raises(ConfigError, match=r"tokens are \(2, 3\), and have to be of one text, \(1, T\)"):
            one(engine, torch.ones(2, 3, dtype=torch.int64))
    engine.model = Classifier(engine.model, ("a", "b"))
    with pytest.raises(ConfigError, match="this model tells labels apart and expects no next token; capture and trace"):
        look(engine, torch.tensor([[1, 2]]))


def test_a_stream_that_is_no_sum_has_no_contributions_and_the_rest():
    engine = engine_of("textbook", norm_position="post")
    data = look(engine, engine.encode_prompt(PROMPT))
    assert data["contributions"] is None and len(data["norms"]) == 3


def test_a_context_too_short_for_a_repetition_shows_the_rest():
    engine = engine_of("gpt2", context_length=5)
    assert look(engine, engine.encode_prompt(PROMPT))["heads"] is None


def test_a_model_that_says_nothing_finite_is_refused():
    engine = engine_of("gpt2")
    with torch.no_grad():
        engine.model.ln_f.weight[:] = 3e38  # which makes scores infinite
    with pytest.raises(ConfigError, match="this model's scores are not finite; it cannot be looked into"):
        look(engine, engine.encode_prompt(PROMPT))
    engine = engine_of("gpt2")
    with torch.no_grad():
        engine.model.wte.weight[250, 0] = math.nan  # of a token that the prompt does not have
    with pytest.raises(
        ConfigError, match="wte.weight of this model is not finite everywhere; it cannot be looked into"
    ):
        look(engine, engine.encode_prompt(PROMPT))


class AppleGPU(TorchFunctionMode):
    """It has no float64: a tensor has to leave it before it is one."""

    def __init__(self):
        super().__init__()
        self.moved = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function is not torch.Tensor.double or any(args[0] is tensor for tensor in self.moved)
        result = function(*args, **(kwargs or {}))
        if function is torch.Tensor.cpu:
            self.moved.append(result)
        return result


def test_a_histogram_is_made_where_there_is_float64():
    with AppleGPU():
        assert sum(histogram(torch.ones(3))["counts"]) == 3


@pytest.mark.parametrize("values", [[1.0, 1.0000001], [0.0, 1e-44], [3.0, 3.0]])
def test_values_that_hardly_differ_have_a_histogram(values):
    """Fewer numbers of float32 lie between these than there are bins."""
    found = histogram(torch.tensor(values))
    assert sum(found["counts"]) == 2 and found["mean"] == pytest.approx(values[0])
