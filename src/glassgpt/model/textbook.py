"""GPT-2 spelled out: every step of the papers as a line of its own, and the switches that experiments need.

Slower than gpt2.py and, in its GPT-2 setting (norm_position pre, residual on, a GELU), proven equal to it; the parameter
names are the same, so weights move between the two. `norm_position = "post"`, `residual = false` and `activation = "relu"`
show what each choice is good for. "post" with "relu" has the decoder blocks of 2017 (Vaswani et al.), less their look at an
encoder; still GPT-2's are the learned positions (2017: sines), the unscaled embeddings (2017: times sqrt(C)), the last norm
`ln_f` (2017: none) and the start of the weights.

Shapes: B batch, T positions in this call, S positions attended to, C n_embd, H n_head, D head_dim, F mlp width, V vocab_size.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.model.attention import explicit_attention
from glassgpt.model.cache import Cache
from glassgpt.model.language_model import LanguageModel


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the features of each position, then a learned scale and shift (Ba et al. 2016)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias else None

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)
        x = (x - mean) / torch.sqrt(variance + self.eps) * self.weight
        return x if self.bias is None else x + self.bias


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function of x (Hendrycks & Gimpel 2016)."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation that GPT-2 was trained with."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}


class Attention(nn.Module):
    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.n_head, self.layer, self.dropout = config.n_head, layer, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias and config.qkv_bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        q, k, v = self.c_attn(x).chunk(3, dim=-1)  # (B, T, C) each
        q, k, v = self.split_heads(q), self.split_heads(k), self.split_heads(v)  # (B, H, T, D) each
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, H, S, D)
        y = explicit_attention(q, k, v, dropout=self.dropout if self.training else 0.0)  # (B, H, T, D)
        return self.resid_dropout(self.c_proj(self.merge_heads(y)))

    def split_heads(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        return x.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, T, C) -> (B, H, T, D)

    def merge_heads(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)  # (B, H, T, D) -> (B, T, C)


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, config.mlp_width, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]
        self.c_proj = nn.Linear(config.mlp_width, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.activation(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.norm_position, self.residual = config.norm_position, config.residual
        self.ln_1 = LayerNorm(config)
        self.attn = Attention(config, layer)
        self.ln_2 = LayerNorm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        x = self.sublayer(x, self.ln_1, lambda y: self.attn(y, cache))
        return self.sublayer(x, self.ln_2, self.mlp)

    def sublayer(self, x: Tensor, norm: LayerNorm, compute: Callable[[Tensor], Tensor]) -> Tensor:
        y = compute(norm(x) if self.norm_position == "pre" else x)
        if self.residual:
            y = x + y
        return norm(y) if self.norm_position == "post" else y


class Textbook(LanguageModel):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.context_length, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = LayerNorm(config)
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def init_weights(self, generator: torch.Generator) -> None:
        """GPT-2's: normal with std 0.02, projections into the residual stream 0.02/sqrt(2 n_layer), biases 0, norms 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "ln_" in name:
                nn.init.ones_(parameter)
            elif name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer), generator=generator)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)

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
        return hidden @ self.unembedding.T
