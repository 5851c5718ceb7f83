"""What the field settled on since GPT-2, as one block: the Qwen3 block (Qwen Team 2025, 2505.09388), names included.

Against gpt2.py: RMSNorm for LayerNorm, positions by rotation inside attention for a table of positions, normalised queries
and keys, key and value heads shared by groups of query heads, a gated MLP, no biases, and no dropout of attention's weights.

Shapes: B batch, T positions in this call, C n_embd, H n_head, K n_kv_head, D head_dim, F mlp width, V vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.model.attention import fused_attention
from glassgpt.model.cache import Cache
from glassgpt.model.language_model import LanguageModel


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles, (T, D) each: pair i turns by position / theta^(2i/D) (Su et al. 2021)."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim  # 2i/D, (D/2,)
    frequencies = 1 / theta**exponents  # float32 and in this order as in transformers: the last bit counts far out
    angles = torch.outer(positions.float(), frequencies).repeat(1, 2)  # (T, D)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x (B, H, T, D) by its positions' angles. Dimension i is paired with i + D/2, as in Llama and Qwen."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class RMSNorm(nn.RMSNorm):
    """Scale to length 1 on average over the last dimension; no mean, no shift (Zhang & Sennrich 2019, 1910.07467)."""

    def forward(self, x: Tensor) -> Tensor:
        # In the precision of the weights: under autocast, queries and keys arrive in bfloat16.
        return super().forward(x.to(self.weight.dtype))


class Attention(nn.Module):
    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_width
        C, D = config.n_embd, config.head_width
        self.q_proj = nn.Linear(C, config.n_head * D, bias=False)
        self.k_proj = nn.Linear(C, config.kv_heads * D, bias=False)
        self.v_proj = nn.Linear(C, config.kv_heads * D, bias=False)
        self.o_proj = nn.Linear(config.n_head * D, C, bias=False)
        self.q_norm = RMSNorm(D, eps=config.norm_eps)
        self.k_norm = RMSNorm(D, eps=config.norm_eps)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], cache: Cache | None) -> Tensor:
        B, T, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(B, T, -1, self.head_dim)).transpose(1, 2)  # (B, H, T, D)
        k = self.k_norm(self.k_proj(x).view(B, T, -1, self.head_dim)).transpose(1, 2)  # (B, K, T, D)
        v = self.v_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)
        q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, K, S, D)
        y = fused_attention(q, k, v)  # (B, H, T, D)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020, 2002.05202): one half decides how much of the other half passes."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.n_embd, config.mlp_width, bias=False)
        self.up_proj = nn.Linear(config.n_embd, config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.n_embd, eps=config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.n_embd, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], cache: Cache | None) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), angles, cache))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


class Trunk(nn.Module):
    """Everything below the output layer: what Qwen3's files call `model`."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.head_dim, self.theta = config.head_width, config.rope_theta
        self.embed_tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm = RMSNorm(config.n_embd, eps=config.norm_eps)

    def embed(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        """tokens (B, T) -> (B, T, C); ngram.py adds to it."""
        return self.embed_tokens(tokens)

    def forward(self, tokens: Tensor, positions: Tensor, cache: Cache | None) -> Tensor:
        x = self.dropout(self.embed(tokens, cache))  # (B, T, C)
        cos, sin = rotary_angles(positions, self.head_dim, self.theta)
        angles = cos.to(x.dtype), sin.to(x.dtype)
        for block in self.layers:
            x = block(x, angles, cache)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return self.norm(x)


class Modern(LanguageModel):
    trunk = Trunk

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.model = self.trunk(config)
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def init_weights(self, generator: torch.Generator) -> None:
        """As GPT-2: normal with std 0.02, the two projections into the residual stream scaled by 1/sqrt(2 n_layer)."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            else:
                into_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if into_stream else 0.02
                nn.init.normal_(parameter, std=std, generator=generator)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (B, T) -> what the last norm gives, (B, T, C). With a cache, `tokens` continue what it holds."""
        return self.model(tokens, self.positions(tokens, cache), cache)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.model.layers

    @property
    def embedding(self) -> Tensor:
        return self.model.embed_tokens.weight

    @property
    def final_norm(self) -> nn.Module:
        return self.model.norm

    @property
    def unembedding(self) -> Tensor:
        """The output matrix (V, C)."""
        return (self.model.embed_tokens if self.config.tie_embeddings else self.lm_head).weight

    def unembed(self, hidden: Tensor) -> Tensor:
        """(..., C) -> logits (..., V)."""
        return F.linear(hidden, self.unembedding)
