"""modern.py against the Qwen3 block, written once more: plainly, one head at a time, from the papers."""

import pytest
import torch
import torch.nn.functional as F

from glassgpt.model.modern import RMSNorm, rotary_angles, rotate

from .conftest import small, some_tokens


def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps) * weight


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def qwen3(model, tokens):
    w, c = dict(model.named_parameters()), model.config
    D, group, T = c.head_width, c.n_head // c.kv_heads, tokens.shape[1]
    # Angles are float32 whatever the weights are, and computed in this order, as transformers does it.
    inv_freq = 1.0 / (c.rope_theta ** (torch.arange(0, D, 2, dtype=torch.int64).float() / D))
    angles = torch.arange(T).float()[:, None] * inv_freq[None, :]
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos().double(), angles.sin().double()
    future = torch.ones(T, T).triu(1).bool()

    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(c.n_layer):
        at = {
            n.removeprefix(f"model.layers.{layer}."): p for n, p in w.items() if n.startswith(f"model.layers.{layer}.")
        }
        y = rms_norm(x, at["input_layernorm.weight"], c.norm_eps)
        heads = []
        for h in range(c.n_head):
            mine, shared = slice(h * D, (h + 1) * D), slice(h // group * D, (h // group + 1) * D)
            q = rms_norm(y @ at["self_attn.q_proj.weight"][mine].T, at["self_attn.q_norm.weight"], c.norm_eps)
            k = rms_norm(y @ at["self_attn.k_proj.weight"][shared].T, at["self_attn.k_norm.weight"], c.norm_eps)
            v = y @ at["self_attn.v_proj.weight"][shared].T
            q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
            heads.append((q @ k.mT / D**0.5).masked_fill(future, float("-inf")).softmax(-1) @ v)
        x = x + torch.cat(heads, dim=-1) @ at["self_attn.o_proj.weight"].T
        y = rms_norm(x, at["post_attention_layernorm.weight"], c.norm_eps)
        gate, up = y @ at["mlp.gate_proj.weight"].T, y @ at["mlp.up_proj.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ at["mlp.down_proj.weight"].T
    output = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return rms_norm(x, w["model.norm.weight"], c.norm_eps) @ output.T


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_kv_head": 6},
        {"n_kv_head": 1, "tie_embeddings": False},
        {"rope_theta": 1e6, "norm_eps": 1e-3, "head_dim": 10},
        {"n_kv_head": 3, "n_layer": 3, "head_dim": 0},
    ],
    ids=str,
)
def test_it_computes_qwen3(changes):
    model, tokens = small("modern", **changes), some_tokens(5, 11)
    expected = qwen3(model, tokens)
    torch.testing.assert_close(model(tokens), expected, rtol=1e-12, atol=1e-12)
    loss = lambda logits: F.cross_entropy(logits.flatten(0, 1), tokens.flatten())  # noqa: E731
    ours = torch.autograd.grad(loss(model(tokens)), list(model.parameters()))
    theirs = torch.autograd.grad(loss(expected), list(model.parameters()))
    for (name, _), a, b in zip(model.named_parameters(), ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("theta", [1e4, 1e6])
@pytest.mark.parametrize("D", [6, 64, 128])
def test_the_angles_are_those_of_transformers_to_the_last_bit(D, theta):
    """Far out in a long context one bit in a frequency is a visible angle."""
    inv_freq = 1.0 / (theta ** (torch.arange(0, D, 2, dtype=torch.int64).float() / D))
    positions = torch.tensor([0, 1, 2, 1000, 32767])
    angles = positions[:, None].float() * torch.cat((inv_freq, inv_freq))
    cos, sin = rotary_angles(positions, D, theta)
    assert torch.equal(cos, angles.cos()) and torch.equal(sin, angles.sin())


def test_a_rotated_product_knows_only_the_distance():
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(1, 1, 1, 10, generator=generator, dtype=torch.float64) for _ in range(2))

    def score(i, j):
        def turned(x, position):
            cos, sin = rotary_angles(torch.tensor([position]), 10, 100.0)
            return rotate(x, cos.double(), sin.double())

        return (turned(q, i) * turned(k, j)).sum().item()

    assert score(7, 3) == pytest.approx(score(27, 23), abs=1e-5)
    assert abs(score(7, 3) - score(3, 7)) > 1e-2
    assert abs(score(7, 3) - score(7, 4)) > 1e-2
    cos, sin = rotary_angles(torch.tensor([5]), 10, 100.0)
    torch.testing.assert_close(rotate(q, cos.double(), sin.double()).norm(), q.norm(), rtol=1e-6, atol=0)


def test_norms_stay_in_the_weights_precision():
    """Under autocast queries arrive in bfloat16; their norm is taken in float32."""
    norm = RMSNorm(6, eps=1e-6)
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(2)).bfloat16()
    assert norm(x).dtype == torch.float32
    torch.testing.assert_close(norm(x), rms_norm(x.float(), norm.weight, 1e-6))
