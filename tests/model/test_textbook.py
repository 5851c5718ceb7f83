"""textbook.py is gpt2.py spelled out, and its switches do what they say."""

import pytest
import torch
import torch.nn.functional as F

from .conftest import small, some_tokens

VARIANTS = [
    {},
    {"bias": False},
    {"qkv_bias": False},
    {"tie_embeddings": False},
    {"activation": "gelu"},
    {"norm_eps": 0.1},
    {"bias": False, "tie_embeddings": False, "activation": "gelu", "n_layer": 3},
]


def logits_and_gradients(model, tokens):
    logits = model(tokens)
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.roll(-1, dims=1).flatten())
    names, parameters = zip(*model.named_parameters(), strict=True)
    return logits.detach(), dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_textbook_is_gpt2(variant):
    gpt2, textbook = small("gpt2", **variant), small("textbook", seed=5, **variant)
    tokens = some_tokens(5, 7)
    assert (gpt2(tokens) - textbook(tokens)).abs().max() > 0.1
    textbook.load_state_dict(gpt2.state_dict())
    logits, gradients = logits_and_gradients(gpt2, tokens)
    other_logits, other_gradients = logits_and_gradients(textbook, tokens)
    torch.testing.assert_close(other_logits, logits, rtol=1e-12, atol=1e-12)
    assert other_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(other_gradients[name], gradient, rtol=1e-11, atol=1e-12, msg=name)


@pytest.mark.parametrize("architecture", ["gpt2", "textbook"])
@pytest.mark.parametrize("changes", [{"activation": "gelu"}, {"norm_eps": 1e-3}], ids=str)
def test_the_wrong_gelu_or_epsilon_under_the_same_weights_is_noticed(architecture, changes):
    right, wrong = small(architecture), small(architecture, **changes)
    wrong.load_state_dict(right.state_dict())
    tokens = some_tokens(5, 7)
    assert (right(tokens) - wrong(tokens)).abs().max() > 1e-4


def test_the_two_initialisations_are_one():
    gpt2, textbook = small("gpt2"), small("textbook")
    for (name, p), (other, q) in zip(gpt2.named_parameters(), textbook.named_parameters(), strict=True):
        assert name == other and torch.equal(p, q)


def by_hand(model, tokens):
    """The switches in a few lines over the weights: one layer norm, one attention, one MLP, twice."""
    w, c = dict(model.named_parameters()), model.config
    T, D = tokens.shape[1], c.n_embd // c.n_head

    def norm(x, name):
        return F.layer_norm(x, (c.n_embd,), w[f"{name}.weight"], w[f"{name}.bias"], c.norm_eps)

    def linear(x, name):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def attention(x, name):
        heads = []
        q, k, v = linear(x, f"{name}.c_attn").split(c.n_embd, dim=-1)
        for h in range(c.n_head):
            part = slice(h * D, (h + 1) * D)
            scores = q[..., part] @ k[..., part].mT / D**0.5
            future = torch.ones(T, T).triu(1).bool()
            heads.append(scores.masked_fill(future, float("-inf")).softmax(-1) @ v[..., part])
        return linear(torch.cat(heads, dim=-1), f"{name}.c_proj")

    bend = {"relu": F.relu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}[c.activation]

    def mlp(x, name):
        return linear(bend(linear(x, f"{name}.c_fc")), f"{name}.c_proj")

    x = w["wte.weight"][tokens] + w["wpe.weight"][:T]
    for layer in range(c.n_layer):
        for compute, name, ln in ((attention, "attn", "ln_1"), (mlp, "mlp", "ln_2")):
            name, ln = f"h.{layer}.{name}", f"h.{layer}.{ln}"
            stream = x if c.residual else 0
            pre = c.norm_position == "pre"
            x = stream + compute(norm(x, ln), name) if pre else norm(stream + compute(x, name), ln)
    return norm(x, "ln_f") @ w["wte.weight"].T


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_the_switches_of_the_experiments(norm_position, residual, activation):
    changes = {"norm_position": norm_position, "residual": residual, "activation": activation}
    model, tokens = small("textbook", **changes), some_tokens(5, 7)
    torch.testing.assert_close(model(tokens), by_hand(model, tokens), rtol=1e-11, atol=1e-11)
    for name, other in {"norm_position": "pre", "residual": True, "activation": "gelu_tanh"}.items():
        if changes[name] != other:
            plain = small("textbook", **(changes | {name: other}))
            assert (plain(tokens) - model(tokens)).abs().max() > 1e-4
