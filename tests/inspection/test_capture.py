"""Activations by name, against what the model's parts compute when they are called by hand."""

import copy
import inspect
import re
from pathlib import Path

import pytest
import torch

from glassgpt.errors import ConfigError
from glassgpt.inspection import (
    Pair,
    ablate,
    activation_names,
    attribute,
    capture,
    carried,
    contributions,
    edited,
    gradient_norms,
    head_scores,
    most_excited,
)
from glassgpt.inspection.trace import trace
from glassgpt.model.classifier import Classifier
from glassgpt.train.recompute import recompute_blocks

from ..model.conftest import small, some_tokens


def test_every_name_has_its_shape(model, tokens):
    c, (B, T) = model.config, tokens.shape
    found = capture(model, tokens, ["*"])
    shapes = {
        "embedding": (B, T, c.n_embd), "block.0.weights": (B, c.n_head, T, T), "block.1.heads": (B, c.n_head, T, c.head_width),
        "block.0.attention": (B, T, c.n_embd), "block.0.neurons": (B, T, c.mlp_width), "block.1.mlp": (B, T, c.n_embd),
        "block.1": (B, T, c.n_embd), "hidden": (B, T, c.n_embd), "logits": (B, T, c.vocab_size),
    }  # fmt: skip
    assert {name: tuple(found[name].shape) for name in shapes} == shapes


def test_the_model_computes_the_same_bits_and_is_left_as_it_was(model, tokens):
    before = model(tokens)
    hooks = lambda: [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]  # noqa: E731
    none = hooks()
    assert capture(model, tokens, ["*"])["logits"].equal(before)
    assert hooks() == none and not any(map(sum, none)) and model(tokens).equal(before)


def test_the_stream_is_the_sum_of_what_is_added_to_it(model, tokens):
    found = capture(model, tokens, ["embedding", "block.*", "hidden"])
    stream = found["embedding"]
    for i in range(model.config.n_layer):
        stream = stream + found[f"block.{i}.attention"] + found[f"block.{i}.mlp"]
        torch.testing.assert_close(found[f"block.{i}"], stream)
    torch.testing.assert_close(found["hidden"], model.final_norm(stream))
    torch.testing.assert_close(found["logits"], model.unembed(found["hidden"]))


def test_weights_are_those_that_gathered_the_heads(model, tokens):
    """Each head is its weights times its values: a head whose weights are all on the first position has that one's values."""
    found = capture(model, tokens, ["block.1.weights", "block.1.heads"])
    weights, heads = found["block.1.weights"], found["block.1.heads"]
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert not weights.triu(1).any()
    first = torch.zeros_like(weights)
    first[..., 0] = 1
    values = [
        capture(model, tokens, ["block.1.heads"], {"block.1.weights": lambda w, j=j: first.roll(j, -1)})[
            "block.1.heads"
        ][:, :, :1]
        for j in range(tokens.shape[1])
    ]
    torch.testing.assert_close(weights @ torch.cat(values, dim=2), heads)


def test_an_edit_changes_what_comes_after_it_and_ends_with_its_block(model, tokens):
    plain = capture(model, tokens, ["*"])

    def without_head_2(heads):
        heads = heads.clone()
        heads[:, 2] = 0
        return heads

    with edited(model, {"block.1.heads": without_head_2}):
        changed = capture(model, tokens, ["*"])
    for name in ("embedding", "block.0", "block.1.weights"):
        assert changed[name].equal(plain[name])
    for name in ("block.1.heads", "block.1.attention", "block.1", "logits"):
        assert not changed[name].equal(plain[name])
    assert not changed["block.1.heads"][:, 2].any()
    assert model(tokens).equal(plain["logits"])


@pytest.mark.parametrize(
    "name", ["embedding", "block.0", "block.0.attention", "block.0.mlp", "block.0.neurons", "hidden"]
)
def test_patching_an_activation_from_another_text_hands_on_what_depends_on_it(model, tokens, name):
    other = tokens.roll(3, dims=1)
    there = capture(model, other, [name, "block.0"])
    here = capture(model, tokens, ["block.0"], {name: lambda _: there[name]})
    if name in ("embedding", "block.0"):
        assert here["block.0"].equal(there["block.0"])
    if name == "hidden":
        assert here["logits"].equal(there["logits"])
    assert not here["logits"].equal(model(tokens))


def test_a_failure_inside_leaves_no_hook_behind(model, tokens):
    def fail(activation):
        raise ZeroDivisionError

    for name in activation_names(model)[:8]:
        with pytest.raises(ZeroDivisionError):
            capture(model, tokens, [name], {name: fail})
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.overrides._get_current_function_mode() is None
    assert capture(model, tokens, ["block.0.weights"])["logits"].equal(model(tokens))


@pytest.mark.parametrize("name", ["block.0.weights", "block.1.mlp", "embedding*"])
def test_ctrl_c_inside_leaves_nothing_behind(model, tokens, name):
    """torch calls no hook after it."""

    def stop(activation):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            capture(model, tokens, [name], {name: stop})
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.overrides._get_current_function_mode() is None


@pytest.mark.parametrize("name", ["block.0", "block.1.weights", "block.0.heads", "embedding.2-gram"])
def test_an_edit_in_place_is_one(model, tokens, name):
    if name == "embedding.2-gram" and name not in activation_names(model):
        pytest.skip("this model has none")
    plain = capture(model, tokens, [name])
    halved = capture(model, tokens, [name], {name: lambda a: a.mul_(0.5)})
    torch.testing.assert_close(halved[name], plain[name] / 2)
    torch.testing.assert_close(halved["logits"], capture(model, tokens, [], {name: lambda a: a / 2})["logits"])
    assert not torch.allclose(halved["logits"], plain["logits"])


def test_edits_within_edits_add_up(model, tokens):
    name = "block.0.weights"
    twice = lambda a: 2 * a  # noqa: E731
    plain = capture(model, tokens, [name])[name]
    with edited(model, {name: twice}):
        with edited(model, {name: twice}):
            found = capture(model, tokens, [name], {name: twice})
        torch.testing.assert_close(capture(model, tokens, [name])[name], 2 * plain)
    torch.testing.assert_close(found[name], 8 * plain)
    torch.testing.assert_close(found["logits"], capture(model, tokens, [], {name: lambda a: 8 * a})["logits"])


def test_what_an_edit_computes_is_no_part_of_the_model(model, tokens):
    """Nor seen as one: neither its softmax nor its attention."""
    names = ["block.0.weights", "block.0.heads"]
    sharp = lambda weights: (2 * weights.log()).softmax(dim=-1)  # noqa: E731
    plain = capture(model, tokens, names)
    found = capture(model, tokens, names, {"block.0.weights": sharp})
    torch.testing.assert_close(found["block.0.weights"], sharp(plain["block.0.weights"]))

    def mixed(heads):
        heads = heads.softmax(dim=-1)
        return heads + torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)

    found = capture(model, tokens, names, {"block.0.weights": lambda w: 0.5 * w, "block.0.heads": mixed})
    torch.testing.assert_close(found["block.0.weights"], 0.5 * plain["block.0.weights"])
    torch.testing.assert_close(found["block.0.heads"], mixed(0.5 * plain["block.0.heads"]))


def test_an_edit_of_one_n_gram_may_look_up_others():
    model, tokens = small("ngram", n_gram=3), some_tokens(5, 7)
    table = torch.arange(12.0).view(1, 12).double()
    looked_up = lambda share: torch.nn.functional.embedding(torch.zeros(5, 7, dtype=torch.long), table)  # noqa: E731
    edits = {"embedding.2-gram": torch.zeros_like, "embedding.3-gram": looked_up}
    found = capture(model, tokens, ["embedding*"], edits)
    assert found["embedding.3-gram"].equal(table.expand(5, 7, 12)) and not found["embedding.2-gram"].any()
    torch.testing.assert_close(found["embedding"], found["embedding.token"] + table)


@pytest.mark.parametrize("name", ["block.0.weights", "embedding.3-gram"])
def test_each_edit_runs_once_and_what_is_seen_is_what_was_used(tokens, name):
    model = small("ngram", n_gram=3)
    runs = []

    def noisy(activation):
        runs.append(activation)
        return activation + torch.rand_like(activation)

    with edited(model, {name: noisy}), edited(model, {name: noisy}):
        found = capture(model, tokens, [name], {name: noisy})
    assert len(runs) == 3
    again = capture(model, tokens, [], {name: lambda _: found[name]})
    torch.testing.assert_close(found["logits"], again["logits"])


@pytest.mark.parametrize("name", ["block.0", "block.0.mlp", "block.0.heads", "block.0.neurons"])
def test_an_edit_in_place_reaches_nothing_else_that_is_seen(model, tokens, name):
    """A dropout that drops nothing hands on the very tensor that it was given."""
    plain = capture(model, tokens, ["*"])
    found = capture(model, tokens, ["*"], {name: lambda a: a.mul_(0.5)})
    last = {"block.0": "block.0.mlp", "block.0.mlp": "block.0.neurons", "block.0.heads": "block.0.weights",
            "block.0.neurons": "block.0.attention"}[name]  # fmt: skip
    assert found[last].equal(plain[last])
    inner = [one for one in plain if one.endswith("mlp.c_proj") and name == "block.0.mlp"][:1]
    assert all(found[one].equal(plain[one]) for one in inner)
    found["logits"].sum().backward()  # nothing that this needs was written to


def test_an_edit_that_changes_nothing_changes_no_bit_where_there_are_no_numbers(model, tokens):
    with torch.no_grad():
        model.embedding[tokens[0, 3]] = torch.nan
    kept = capture(model, tokens, [], {"block.*.weights": lambda w: w})["logits"]
    plain = model(tokens)
    assert plain.isnan().any() and torch.equal(kept.nan_to_num(7), plain.nan_to_num(7))


@pytest.mark.parametrize("name", ["block.0.weights", "embedding.2-gram"])
def test_gradients_reach_what_an_edit_replaces(tokens, name):
    model = small("ngram", n_gram=3)
    found = capture(model, tokens, [name], {name: torch.clone})
    (gradient,) = torch.autograd.grad(found["logits"].sum(), found[name])
    assert gradient.shape == found[name].shape and gradient.any()


def test_dropped_weights_are_seen_whole_and_dropped_after_an_edit(tokens):
    model = small(dropout=0.5).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # attention's own is left
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found = capture(model, tokens, ["block.0.*"], {"block.0.weights": torch.clone})
        heads.append(found["block.0.heads"])
        torch.testing.assert_close(found["block.0.weights"].sum(dim=-1), torch.ones(5, 3, 7, dtype=torch.float64))
    assert not torch.equal(*heads)


MEASURES = {
    "ablate": lambda model, tokens: ablate(model, tokens).heads.tolist(),
    "attribute": lambda model, tokens: attribute(model, Pair(tokens[0], 1, tokens[1], 2)).heads.tolist(),
    "carried": lambda model, tokens: carried(model, Pair(tokens[0], 1, tokens[1], 2)).tolist(),
    "gradient_norms": lambda model, tokens: [*gradient_norms(model, tokens).values()],
    "head_scores": lambda model, tokens: head_scores(model).induction.tolist(),
    "trace": lambda model, tokens: [
        line.runs[-1].values[-1][1:6]
        for line in trace(model, tokens).files[Path(inspect.getsourcefile(type(model)))]
        if line.runs
    ],
    "most_excited": lambda model, tokens: most_excited(model, tokens, 0).activation.tolist(),
}


@pytest.mark.parametrize("measure", MEASURES)
def test_a_model_in_training_is_measured_without_dropout_and_goes_on_training(measure, tokens):
    model = small(dropout=0.5)
    expected = MEASURES[measure](model.eval(), tokens)
    model.train()
    model.blocks[1].eval()  # somebody's, who froze it
    modes = [module.training for module in model.modules()]
    assert MEASURES[measure](model, tokens) == expected
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("measure", ["ablate", "gradient_norms"])
def test_a_model_that_tells_labels_apart_has_no_loss_of_a_text(measure, model, tokens):
    with pytest.raises(ConfigError, match="this model tells labels apart and expects no next token"):
        MEASURES[measure](Classifier(model, ("bad", "good")), tokens)


def test_a_name_that_is_none_is_refused_with_the_one_that_was_meant(model, tokens):
    with pytest.raises(
        ConfigError, match="'block.0.weight' is no activation of this model; did you mean block.0.weights"
    ):
        capture(model, tokens, ["block.0.weight"])


def test_n_gram_embeddings_that_are_only_seen_are_added_up_by_the_model():
    model, tokens = (
        small("ngram", n_gram=4).bfloat16(),
        some_tokens(5, 7),
    )  # one by one, a half-precision sum is another
    plain = capture(model, tokens, ["embedding"])["embedding"]
    found = capture(model, tokens, ["embedding*"], {"embedding.3-gram": lambda a: a})
    assert found["embedding"].equal(plain)
    one_by_one = sum(found[f"embedding.{n}-gram"] for n in (2, 3, 4)) + found["embedding.token"]
    assert not one_by_one.equal(plain)


def test_n_gram_embeddings_are_told_apart_by_their_length():
    model, tokens = small("ngram", n_gram=4), some_tokens(5, 7)
    names = ["embedding.token", "embedding.2-gram", "embedding.3-gram", "embedding.4-gram"]
    assert activation_names(model)[:5] == [*names, "embedding"]
    found = capture(model, tokens, ["embedding*"])
    torch.testing.assert_close(sum(found[name] for name in names), found["embedding"])
    assert found["embedding.token"].equal(model.embedding[tokens])
    for n in (2, 3, 4):  # of two groups that share no row, where they differ in the token that only longer ones reach
        changed = tokens.clone()
        changed[:, 6 - n] = (changed[:, 6 - n] + 1) % 23
        other = capture(model, changed, ["embedding*"])
        same = [other[name][:, 6].equal(found[name][:, 6]) for name in names]
        assert same == [True] * n + [False] * (4 - n)


def test_edits_of_several_n_grams_add_up_and_each_is_seen():
    model, tokens = small("ngram", n_gram=4), some_tokens(5, 7)
    found = capture(model, tokens, ["embedding*"])
    edits = {"embedding.2-gram": torch.zeros_like, "embedding.4-gram": lambda a: 3 * a}
    changed = capture(model, tokens, ["embedding*"], edits)
    assert not changed["embedding.2-gram"].any() and changed["embedding.3-gram"].equal(found["embedding.3-gram"])
    assert changed["embedding.4-gram"].equal(3 * found["embedding.4-gram"])
    expected = found["embedding.token"] + found["embedding.3-gram"] + 3 * found["embedding.4-gram"]
    torch.testing.assert_close(changed["embedding"], expected)


def test_weights_are_seen_as_an_edit_left_them(model, tokens):
    first = lambda weights: torch.zeros_like(weights).index_fill(-1, torch.tensor([0]), 1)  # noqa: E731
    found = capture(model, tokens, ["block.0.weights"], {"block.0.weights": first})["block.0.weights"]
    assert (found[..., 0] == 1).all() and not found[..., 1:].any()


def test_an_edit_may_be_of_many_and_a_name_be_alone(model, tokens):
    silent = {"block.*.heads": torch.zeros_like}
    found = capture(model, tokens, "block.*.heads", silent)
    assert len(found) == 1 + len(model.blocks)
    assert not any(activation.any() for name, activation in found.items() if name != "logits")
    one_by_one = {f"block.{i}.heads": torch.zeros_like for i in range(len(model.blocks))}
    with edited(model, one_by_one):
        assert torch.equal(model(tokens), found["logits"])
    with pytest.raises(ConfigError, match="'block.9.head'"), edited(model, {"block.9.head": torch.zeros_like}):
        pass


def test_logits_may_be_asked_for_by_name(model, tokens):
    assert [*capture(model, tokens, "logits")] == ["logits"]
    found = capture(model, tokens, ["logits", "hidden"])
    assert [*found] == ["hidden", "logits"] and found["logits"].equal(model(tokens))
    with pytest.raises(ConfigError, match="'logits' is no activation"), edited(model, {"logits": torch.zeros_like}):
        pass


PARTS = [
    "embedding",
    "hidden",
    "block.1",
    *(f"block.1.{part}" for part in ("weights", "heads", "attention", "neurons", "mlp")),
]


@pytest.mark.parametrize("name", PARTS)
def test_an_edit_that_returns_no_such_tensor_is_named(model, tokens, name):
    whole = capture(model, tokens, [name])[name]
    torch.testing.assert_close(capture(model, tokens, [], {name: torch.clone})["logits"], model(tokens))
    for edit, returned in (
        (lambda a: None, "NoneType"),
        (lambda a: a.numpy(), "ndarray"),
        (lambda a: a[:, :2], re.escape(f"a tensor {tuple(whole[:, :2].shape)} of float64 on cpu")),
        (lambda a: a.sum(), re.escape("a tensor () of float64 on cpu")),
        (torch.Tensor.half, re.escape(f"a tensor {tuple(whole.shape)} of float16 on cpu")),
        (lambda a: a.to("meta"), re.escape(f"a tensor {tuple(whole.shape)} of float64 on meta")),
    ):
        expected = re.escape(f"a tensor {tuple(whole.shape)} of float64 on cpu")
        alike = returned.startswith(re.escape(f"a tensor {tuple(whole.shape)}"))
        hint = re.escape(": end it with .to(a), where a is what it is given") if alike else ""
        message = f"^the edit of {name} returned {returned}; it has to return {expected}{hint}$"
        with torch.inference_mode(), pytest.raises(ConfigError, match=message):
            capture(model, tokens, [name], {name: edit})
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_tokens_that_are_none_of_the_models_are_refused(model, tokens):
    for wrong in (tokens[0], tokens.tolist(), "text", tokens[:, :0]):
        with pytest.raises(ConfigError, match="tokens have to be a tensor"):
            capture(model, wrong, ["embedding"])
    for dtype in (torch.float32, torch.bool, torch.uint8, torch.int32):
        with pytest.raises(ConfigError, match=f"tokens are {dtype}, and have to be ids, torch.int64"):
            capture(model, tokens.to(dtype), ["embedding"])
    last = model.config.vocab_size - 1
    for id in (-1, last + 1):
        wrong = tokens.clone()
        wrong[3, 2] = id
        with pytest.raises(ConfigError, match=f"there is no token {id}; the model's are 0 to {last}"):
            capture(model, wrong, ["embedding"])
    wrong[3, 2] = last
    assert capture(model, wrong, [])["logits"].shape == (*tokens.shape, last + 1)


RECOMPUTED = ["block.0.heads", "block.0.neurons", "block.1.weights", "block.1.attention"]


@pytest.mark.parametrize("name", RECOMPUTED)
def test_with_gradient_checkpointing_an_edit_counts_in_the_gradient_too(model, tokens, name):
    """What is computed once more when a gradient is due, the edit is long gone by then."""

    def gradients():
        with edited(model, {name: lambda a: a * a}):
            loss = model(tokens).square().mean()
        return torch.autograd.grad(loss, [*model.parameters()])

    expected = gradients()
    recompute_blocks(model)
    before = [block.forward for block in model.blocks]
    torch.testing.assert_close(gradients(), expected)
    assert [block.forward for block in model.blocks] == before


def test_with_gradient_checkpointing_what_is_seen_has_its_gradient(model, tokens):
    def gradients():
        found = capture(model, tokens, RECOMPUTED)
        return torch.autograd.grad(found["logits"].square().sum(), [found[name] for name in RECOMPUTED[:2]])

    expected = gradients()
    recompute_blocks(model)
    torch.testing.assert_close(gradients(), expected)


def test_gradients_are_followed_where_they_are_enabled(model, tokens):
    found = capture(model, tokens, ["block.0"])
    (gradient,) = torch.autograd.grad(found["logits"].sum(), found["block.0"])
    assert gradient.shape == found["block.0"].shape and gradient.any()
    with torch.inference_mode():
        assert not capture(model, tokens, ["block.0"])["block.0"].requires_grad


def test_a_classifier_shows_the_activations_of_its_body(model, tokens):
    body = capture(model, tokens, ["*"])
    classifier = Classifier(copy.deepcopy(model), ("bad", "good", "ugly"))
    classifier.init_score(seed=2)
    found = capture(classifier, tokens, ["*"])
    assert {name for name in found if name.startswith("block.")} == {name for name in body if name.startswith("block.")}
    for name in ("embedding", "block.1", "block.0.weights", "hidden"):
        assert found[name].equal(body[name])
    assert found["logits"].shape == (5, 7, 3)
    labels = torch.tensor([0, 1, 2, 1, 0])[:, None].expand(5, 7)
    written = contributions(classifier, found, labels)
    torch.testing.assert_close(sum(written.values()), found["logits"].gather(-1, labels[..., None])[..., 0])
