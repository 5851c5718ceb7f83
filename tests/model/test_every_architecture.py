"""What holds for every model in ARCHITECTURES; a new one is picked up once it has a shape in conftest.py."""

import itertools
import math
import subprocess
import sys

import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.errors import ConfigError
from glassgpt.model import build_model

from .conftest import SHAPES, small, some_tokens


def test_forward_is_hidden_then_unembed(architecture):
    model, tokens = small(architecture), some_tokens(5, 7)
    hidden = model.hidden(tokens)
    assert hidden.shape == (5, 7, SHAPES[architecture]["n_embd"])
    assert model(tokens).shape == (5, 7, 23)
    assert torch.equal(model.unembed(hidden), model(tokens))
    # The last position alone, as prefill takes it.
    torch.testing.assert_close(model.unembed(hidden[:, -1]), model(tokens)[:, -1], rtol=0, atol=1e-12)


def test_no_logit_sees_a_later_token(architecture):
    model, tokens = small(architecture), some_tokens(5, 11)
    logits = model(tokens)
    for t in range(11):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % 23
        other = model(changed)
        assert torch.equal(other[:, :t], logits[:, :t])
        assert ((other[:, t:] - logits[:, t:]).abs().amax(-1) > 1e-6).all()  # and every later one sees it


def test_rows_of_a_batch_do_not_see_each_other(architecture):
    model, tokens = small(architecture), some_tokens(5, 7)
    torch.testing.assert_close(model(tokens)[3:4], model(tokens[3:4]), rtol=0, atol=1e-12)


def test_the_order_of_the_tokens_matters(architecture):
    model = small(architecture)
    a, b = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[2, 1, 3, 4]])
    assert (model(a)[:, -1] - model(b)[:, -1]).abs().max() > 1e-4


@pytest.mark.parametrize("chunks", [[11], [1] * 11, [4, 1, 6], [1, 3, 7], [10, 1]])
def test_fed_in_pieces_through_the_cache_it_says_the_same(architecture, chunks):
    model, tokens = small(architecture), some_tokens(5, 11)
    cache = model.new_cache(5)
    with torch.no_grad():
        pieces = [model(piece, cache) for piece in tokens.split(chunks, dim=1)]
        assert cache.length == 11 == cache.capacity
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=0, atol=1e-12)


def test_the_cache_belongs_to_the_caller(architecture):
    """Two texts in turn through one model, and a third without a cache in between."""
    model, tokens = small(architecture), some_tokens(2, 5, 9)
    caches = [model.new_cache(5), model.new_cache(5)]
    with torch.no_grad():
        outs = [[], []]
        for t in range(9):
            for row in (0, 1):
                outs[row].append(model(tokens[row, :, t : t + 1], caches[row]))
            model(tokens[0])
        for row in (0, 1):
            torch.testing.assert_close(torch.cat(outs[row], dim=1), model(tokens[row]), rtol=0, atol=1e-12)


def test_the_cache_has_the_weights_dtype_and_one_entry_a_key_head(architecture):
    model = small(architecture)
    config = model.config
    cache = model.new_cache(5)
    assert cache.keys.shape == cache.values.shape == (2, 5, config.kv_heads, 11, config.head_width)
    assert cache.keys.dtype == torch.float64
    assert model.float().new_cache(1).values.dtype == torch.float32


def test_longer_than_the_context_is_refused(architecture):
    model = small(architecture)
    with pytest.raises(ConfigError, match="12 positions are more than this model's context_length 11; pass the last"):
        model(some_tokens(1, 12))
    cache = model.new_cache(1)
    with torch.no_grad():
        model(some_tokens(1, 9), cache)
        with pytest.raises(ConfigError, match="^12 positions"):
            model(some_tokens(1, 3), cache)
        assert cache.length == 9
        model(some_tokens(1, 2), cache)


def test_dropout_is_for_training(architecture):
    model, tokens = small(architecture, dropout=0.3), some_tokens(5, 7)
    plain = small(architecture, dropout=0.0)
    torch.testing.assert_close(model(tokens), plain(tokens), rtol=0, atol=0)
    model.train()
    torch.manual_seed(0)
    assert (model(tokens) - model(tokens)).abs().max() > 1e-3
    plain.train()
    assert torch.equal(plain(tokens), plain(tokens))


def test_dropout_reaches_embeddings_attention_and_every_sublayer(architecture, monkeypatch):
    """Counted by what is asked of torch: elementwise after the embedding and after each of the two sublayers, and, in GPT-2's
    blocks, inside attention once a layer."""
    calls = []
    dropout, fused = torch.nn.functional.dropout, torch.nn.functional.scaled_dot_product_attention
    spy = lambda x, p=0.5, training=True, inplace=False: (calls.append((p, training)), dropout(x, p, training))[1]  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "dropout", spy)
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *a, dropout_p, **k: (calls.append((dropout_p, dropout_p > 0)), fused(*a, dropout_p=dropout_p, **k))[1],
    )
    model = small(architecture, dropout=0.3).train()
    model(some_tokens(5, 7))
    each_layer = [(0.0, False), (0.3, True), (0.3, True)] if model.config.is_modern else [(0.3, True)] * 3
    assert calls == [(0.3, True)] + each_layer * model.config.n_layer


def test_a_float32_model_agrees_with_its_float64_self(architecture):
    model, tokens = small(architecture), some_tokens(5, 11)
    expected = model(tokens)
    torch.testing.assert_close(model.float()(tokens).double(), expected, rtol=1e-4, atol=1e-4)


def test_initialisation(architecture):
    config = GPTConfig(
        architecture=architecture, vocab_size=301, context_length=203, n_layer=3, n_head=4, n_embd=128,
        n_inner=416, tie_embeddings=False,
    )  # fmt: skip
    into_stream = ("attn.c_proj.weight", "mlp.c_proj.weight", "o_proj.weight", "down_proj.weight")
    scaled = 0
    for name, parameter in build_model(config, seed=1).named_parameters():
        assert parameter.dtype == torch.float32
        if parameter.ndim == 1:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name
            continue
        std = 0.02 / math.sqrt(2 * 3) if name.endswith(into_stream) else 0.02
        scaled += name.endswith(into_stream)
        assert parameter.std().item() == pytest.approx(std, rel=0.03), name
        assert abs(parameter.mean().item()) < 5 * std / math.sqrt(parameter.numel()), name
    assert scaled == 2 * 3


def test_the_same_seed_is_the_same_model_whatever_else_draws(architecture):
    config = GPTConfig(architecture=architecture, **SHAPES[architecture])
    torch.manual_seed(0)
    first = build_model(config, seed=5)
    torch.rand(17)
    state = torch.get_rng_state()
    second, other = build_model(config, seed=5), build_model(config, seed=6)
    assert torch.equal(torch.get_rng_state(), state)  # and it draws nothing from the generator that all share
    different = 0
    for p, q, r in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        different += not torch.equal(p, r)
    assert different == sum(p.ndim > 1 for p in first.parameters())


def test_no_two_weights_are_drawn_alike(architecture):
    matrices = [p for p in build_model(small(architecture).config, seed=5).parameters() if p.ndim > 1]
    for p, q in itertools.combinations(matrices, 2):
        assert not torch.equal(p.flatten()[:40], q.flatten()[:40])


def test_tied_the_output_layer_is_the_embedding(architecture):
    model, tokens = small(architecture), some_tokens(5, 7)
    embedding = next(model.parameters())
    assert embedding.shape == (23, model.config.n_embd)
    torch.testing.assert_close(model(tokens), model.hidden(tokens) @ embedding.T, rtol=0, atol=1e-12)
    assert "lm_head.weight" not in dict(model.named_parameters())
    untied = small(architecture, tie_embeddings=False)
    torch.testing.assert_close(untied(tokens), untied.hidden(tokens) @ untied.lm_head.weight.T, rtol=0, atol=1e-12)


def test_a_model_needs_a_vocabulary(architecture):
    with pytest.raises(ConfigError, match="^vocab_size is 0; a model needs the size of its tokenizer's vocabulary$"):
        build_model(GPTConfig(architecture=architecture, **(SHAPES[architecture] | {"vocab_size": 0})))


def test_building_draws_nothing_and_loads_no_compiler(architecture):
    """torch's own initialisation costs time and random numbers, and on the meta device a second for its compiler."""
    build = (
        "import sys, torch; from glassgpt.config import GPTConfig; from glassgpt.model import build_model\n"
        f"config = GPTConfig(architecture={architecture!r}, vocab_size=19, context_length=7, n_layer=2, n_head=2, n_embd=12)\n"
        "before = torch.get_rng_state(); build_model(config, seed=1)\n"
        "print(torch.equal(before, torch.get_rng_state()), 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", build], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_compiled_model_takes_lengths_that_change(architecture):
    """Conversations are as long as they are. A piece of Python that a length breaks apart would be compiled anew for each."""
    model = small(architecture)
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model, backend=count)
    for length in (5, 7, 8, 6, 9, 4):
        tokens = torch.arange(2 * length).reshape(2, length)
        assert torch.allclose(compiled(tokens), model(tokens), atol=1e-5)
    torch._dynamo.reset()
    assert len(graphs) == 2  # one for the first length, one for any
