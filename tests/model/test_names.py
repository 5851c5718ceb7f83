"""Parameter names are a file format that is shared with the world: here they stand as the published files have them."""

import pytest

from glassgpt.config import GPTConfig
from glassgpt.model import build_model

# huggingface.co/openai-community/gpt2, model.safetensors. (Its matrices are stored the other way round, (in, out), and it
# holds attn.bias masks, which are no parameters: that is the matter of formats/.)
GPT2_LAYER = {
    "ln_1.weight": (18,),
    "ln_1.bias": (18,),
    "attn.c_attn.weight": (54, 18),
    "attn.c_attn.bias": (54,),
    "attn.c_proj.weight": (18, 18),
    "attn.c_proj.bias": (18,),
    "ln_2.weight": (18,),
    "ln_2.bias": (18,),
    "mlp.c_fc.weight": (29, 18),
    "mlp.c_fc.bias": (29,),
    "mlp.c_proj.weight": (18, 29),
    "mlp.c_proj.bias": (18,),
}
GPT2 = {
    "wte.weight": (23, 18),
    "wpe.weight": (11, 18),
    **{f"h.0.{name}": shape for name, shape in GPT2_LAYER.items()},
    **{f"h.1.{name}": shape for name, shape in GPT2_LAYER.items()},
    "ln_f.weight": (18,),
    "ln_f.bias": (18,),
}

# huggingface.co/Qwen/Qwen3-0.6B, model.safetensors.
QWEN3_LAYER = {
    "self_attn.q_proj.weight": (24, 12),
    "self_attn.k_proj.weight": (8, 12),
    "self_attn.v_proj.weight": (8, 12),
    "self_attn.o_proj.weight": (12, 24),
    "self_attn.q_norm.weight": (4,),
    "self_attn.k_norm.weight": (4,),
    "mlp.gate_proj.weight": (29, 12),
    "mlp.up_proj.weight": (29, 12),
    "mlp.down_proj.weight": (12, 29),
    "input_layernorm.weight": (12,),
    "post_attention_layernorm.weight": (12,),
}
QWEN3 = {
    "model.embed_tokens.weight": (23, 12),
    **{f"model.layers.0.{name}": shape for name, shape in QWEN3_LAYER.items()},
    **{f"model.layers.1.{name}": shape for name, shape in QWEN3_LAYER.items()},
    "model.norm.weight": (12,),
}


def shapes(**config):
    model = build_model(GPTConfig(vocab_size=23, context_length=11, n_layer=2, n_inner=29, **config))
    assert not list(model.buffers())  # a checkpoint holds weights and nothing else
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("architecture", ["gpt2", "textbook"])
def test_gpt2(architecture):
    shape = {"architecture": architecture, "n_head": 3, "n_embd": 18}
    assert shapes(**shape) == GPT2
    assert shapes(**shape, tie_embeddings=False) == GPT2 | {"lm_head.weight": (23, 18)}
    no_qkv = {name: size for name, size in GPT2.items() if not name.endswith("c_attn.bias")}
    assert shapes(**shape, qkv_bias=False) == no_qkv
    assert shapes(**shape, bias=False) == {name: size for name, size in GPT2.items() if not name.endswith("bias")}


def test_qwen3():
    shape = {"architecture": "modern", "n_head": 6, "n_kv_head": 2, "head_dim": 4, "n_embd": 12}
    assert shapes(**shape) == QWEN3
    assert shapes(**shape, tie_embeddings=False) == QWEN3 | {"lm_head.weight": (23, 12)}
