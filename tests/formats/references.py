"""GPT-2 as the literature describes it, written plainly for the tests: what their state dicts hold, and what they compute.

* `BookGPT`: "Build a Large Language Model (From Scratch)", chapter 4: separate W_query, W_key and W_value, an output layer of
  its own, tanh-GELU spelled out, norms with `scale` and `shift`.
* `MinimalGPT`: nanoGPT (tied, exact GELU, biases or none) and minGPT (untied, tanh-GELU): packed q, k and v.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from glassgpt.formats.book import read_book
from glassgpt.formats.mingpt import read_mingpt
from glassgpt.formats.nanogpt import read_nanogpt

SHAPE = (61, 19, 2, 3, 24)  # vocabulary, context, layers, heads, width
NANOGPT_ARGS = {"n_layer": 2, "n_head": 3, "n_embd": 24, "block_size": 19, "vocab_size": 61, "dropout": 0.2}


class BookNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return self.scale * (x - mean) / torch.sqrt(var + 1e-5) + self.shift


class BookGELU(nn.Module):
    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class BookFeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), BookGELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        return self.layers(x)


class BookAttention(nn.Module):
    def __init__(self, width, context, heads, qkv_bias):
        super().__init__()
        self.heads, self.width = heads, width
        self.W_query = nn.Linear(width, width, bias=qkv_bias)
        self.W_key = nn.Linear(width, width, bias=qkv_bias)
        self.W_value = nn.Linear(width, width, bias=qkv_bias)
        self.out_proj = nn.Linear(width, width)
        self.register_buffer("mask", torch.triu(torch.ones(context, context), diagonal=1))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (
            layer(x).view(B, T, self.heads, C // self.heads).transpose(1, 2)
            for layer in (self.W_query, self.W_key, self.W_value)
        )
        scores = q @ k.transpose(2, 3)
        scores = scores.masked_fill(self.mask.bool()[:T, :T], -torch.inf)
        weights = torch.softmax(scores / k.shape[-1] ** 0.5, dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).contiguous().view(B, T, C))


class BookBlock(nn.Module):
    def __init__(self, width, context, heads, qkv_bias):
        super().__init__()
        self.att, self.ff = BookAttention(width, context, heads, qkv_bias), BookFeedForward(width)
        self.norm1, self.norm2 = BookNorm(width), BookNorm(width)

    def forward(self, x):
        x = x + self.att(self.norm1(x))
        return x + self.ff(self.norm2(x))


class BookGPT(nn.Module):
    def __init__(self, vocab, context, layers, heads, width, qkv_bias=False):
        super().__init__()
        self.tok_emb, self.pos_emb = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.trf_blocks = nn.Sequential(*[BookBlock(width, context, heads, qkv_bias) for _ in range(layers)])
        self.final_norm = BookNorm(width)
        self.out_head = nn.Linear(width, vocab, bias=False)

    def forward(self, tokens):
        x = self.tok_emb(tokens) + self.pos_emb(torch.arange(tokens.shape[1]))
        return self.out_head(self.final_norm(self.trf_blocks(x)))


class MinimalNorm(nn.Module):
    def __init__(self, width, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class MinimalAttention(nn.Module):
    def __init__(self, width, context, heads, bias):
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.register_buffer("bias", torch.tril(torch.ones(context, context)).view(1, 1, context, context))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2)
        )
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        scores = scores.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
        return self.c_proj((F.softmax(scores, dim=-1) @ v).transpose(1, 2).contiguous().view(B, T, C))


class MinimalMLP(nn.Module):
    def __init__(self, width, bias, exact):
        super().__init__()
        self.exact = exact
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)

    def forward(self, x):
        x = self.c_fc(x)
        bent = x * 0.5 * (1 + torch.erf(x / math.sqrt(2))) if self.exact else BookGELU()(x)
        return self.c_proj(bent)


class MinimalBlock(nn.Module):
    def __init__(self, width, context, heads, bias, exact):
        super().__init__()
        self.ln_1, self.ln_2 = MinimalNorm(width, bias), MinimalNorm(width, bias)
        self.attn = MinimalAttention(width, context, heads, bias)
        self.mlp = MinimalMLP(width, bias, exact)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class MinimalGPT(nn.Module):
    def __init__(self, vocab, context, layers, heads, width, *, bias=True, exact=True, tied=True):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab, width),
                "wpe": nn.Embedding(context, width),
                "h": nn.ModuleList(MinimalBlock(width, context, heads, bias, exact) for _ in range(layers)),
                "ln_f": MinimalNorm(width, bias),
            }
        )
        self.lm_head = nn.Linear(width, vocab, bias=False)
        if tied:
            self.transformer["wte"].weight = self.lm_head.weight

    def forward(self, tokens):
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](torch.arange(tokens.shape[1]))
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


def nanogpt_content(state_dict):
    """What its ckpt.pt holds of a model."""
    args = {**NANOGPT_ARGS, "bias": "transformer.h.0.attn.c_attn.bias" in state_dict}
    return {"model": {f"_orig_mod.{name}": tensor for name, tensor in state_dict.items()}, "model_args": args}


# The five descriptions in the literature: how each is made, and how its state dict is read.
DESCRIPTIONS = {
    "the book": (lambda: BookGPT(*SHAPE), lambda state: read_book(state, "file", 3)),
    "the book with q, k and v biases": (
        lambda: BookGPT(*SHAPE, qkv_bias=True),
        lambda state: read_book(state, "file", 3),
    ),
    "nanoGPT": (lambda: MinimalGPT(*SHAPE), lambda state: read_nanogpt(nanogpt_content(state), "file")),
    "nanoGPT without biases": (
        lambda: MinimalGPT(*SHAPE, bias=False),
        lambda state: read_nanogpt(nanogpt_content(state), "file"),
    ),
    "minGPT": (lambda: MinimalGPT(*SHAPE, exact=False, tied=False), lambda state: read_mingpt(state, "file", 3)),
}
