"""GPT-2 on one page: tokens in, logits out (Radford et al. 2019; the parameter names are its published ones).

    tokens ─ wte + wpe ─┬─ ln_1 ─ attention ─ + ─┬─ ln_2 ─ MLP ─ + ─ ... n_layer times ... ─ ln_f ─ lm_head ─ logits
                        └────────────────────┘   └───────────┘

GPT-2's lm_head is wte once more ("tied"): a token is recognised by the same vector that it is read as.

Shapes: B batch, T positions in this call, C n_embd, H n_head, D head_dim = C / H, F mlp width, V vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.model.attention import fused_attention
from glassgpt.model.cache import Cache
from glassgpt.model.language_model import LanguageModel


class Attention(nn.Module):
    """Every position looks back at the earlier ones and takes from them what it needs."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.n_head, self.layer, self.dropout = config.n_head, layer, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias and config.qkv_bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)  # (B, T, C) each
        q = q.view(B, T, self.n_head, -1).transpose(1, 2)  # (B, H, T, D)
        k = k.view(B, T, self.n_head, -1).transpose(1, 2)
        v = v.view(B, T, self.n_head, -1).transpose(1, 2)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, H, S, D)
        # softmax(q kᵀ / sqrt(D)) v, where a position sees itself and what came before; attention.py spells it out.
        y = fused_attention(q, k, v, dropout=self.dropout if self.training else 0.0)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """Every position on its own: widen (GPT-2: four times), bend, narrow again."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, config.mlp_width, bias=config.bias)
        self.c_proj = nn.Linear(config.mlp_width, config.n_embd, bias=config.bias)
        # GPT-2 was trained with the tanh form of GELU; the exact form under its weights gives slightly wrong logits.
        self.approximate = "tanh" if config.activation == "gelu_tanh" else "none"
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.c_fc(x), approximate=self.approximate)  # (B, T, F)
        return self.dropout(self.c_proj(x))


class Block(nn.Module):
    """Communicate, then compute; both add to the residual stream (pre-norm: the stream itself is never normalised)."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class GPT2(LanguageModel):
    """`model(tokens)` is `unembed(hidden(tokens))`, logits (B, T, V); the base class joins the two, and counts `positions`:
    0, 1, ... T - 1, or on from where the cache ends, and never beyond context_length."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.context_length, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def init_weights(self, generator: torch.Generator) -> None:
        """GPT-2's start: normal with std 0.02; the two projections into the residual stream scaled by
        1/sqrt(2 n_layer), since 2 n_layer of them add up in it; biases 0, norms 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "ln_" in name:
                nn.init.ones_(parameter)
            else:
                into_stream = name.endswith("c_proj.weight")
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if into_stream else 0.02
                nn.init.normal_(parameter, std=std, generator=generator)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (B, T) -> what the last norm gives, (B, T, C). With a cache, `tokens` continue what it holds."""
        x = self.drop(self.wte(tokens) + self.wpe(self.positions(tokens, cache)))  # (B, T, C)
        for block in self.h:
            x = block(x, cache)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return self.ln_f(x)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.h

    @property
    def embedding(self) -> Tensor:
        return self.wte.weight

    @property
    def final_norm(self) -> nn.Module:
        return self.ln_f

    @property
    def unembedding(self) -> Tensor:
        """The output matrix (V, C)."""
        return (self.wte if self.config.tie_embeddings else self.lm_head).weight

    def unembed(self, hidden: Tensor) -> Tensor:
        """(..., C) -> logits (..., V)."""
        return F.linear(hidden, self.unembedding)
