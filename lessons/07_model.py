# %% [markdown]
# # 7. The block, and the whole model
# A block is two parts that each add to the stream: attention, where positions meet, and the MLP, where each thinks for
# itself. GPT-2 is twelve of them between an embedding and a norm with an output matrix. Now nothing is a placeholder.

# %%
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig, build_config
from glassgpt.model import build_model
from glassgpt.model.gpt2 import MLP, Attention
from glassgpt.model.size import bytes_of, count_parameters


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(config.n_embd), Attention(config, layer=0)
        self.ln_2, self.mlp = nn.LayerNorm(config.n_embd), MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), None)  # communicate
        return x + self.mlp(self.ln_2(x))  # compute


small = GPTConfig(vocab_size=61, context_length=16, n_layer=3, n_head=2, n_embd=32)
model = build_model(small, seed=1)
block = Block(small)
block.load_state_dict(model.h[0].state_dict())  # the published names, so that weights fit
x = torch.randn(2, 5, 32)
print(f"our block against model/gpt2.py's: {(block(x) - model.h[0](x, None)).abs().max().item():.1e}")

# %% [markdown]
# The whole model, by hand from its parts: `model/gpt2.py` is this with a cache.

# %%
tokens = torch.randint(61, (2, 5), generator=torch.Generator().manual_seed(1))
stream = model.wte(tokens) + model.wpe(torch.arange(5))
for h in model.h:
    block.load_state_dict(h.state_dict())
    stream = block(stream)
logits = model.ln_f(stream) @ model.wte.weight.T  # tied: a word is recognised by the vector that it is read as
print(f"the whole by hand: {(logits - model(tokens)).abs().max().item():.1e}, {tuple(logits.shape)}")

# %% [markdown]
# **163 or 124 million?** The book counts an output matrix of its own, and no biases on queries, keys and values; GPT-2
# as published has the biases, and uses the embedding as the output matrix (weight tying). "117M" stands in the paper; it
# was a miscount, as its authors said later.

# %%
gpt2 = build_config(preset="gpt2").model
book = replace(gpt2, tie_embeddings=False, qkv_bias=False)
count, published = count_parameters(book), count_parameters(gpt2)
print(f"\nthe book's variant: {count.total:,} parameters, {bytes_of(count.total) / 2**20:.2f} MiB in float32")
print(f"its output matrix:  {count.head:,}; without it {count.without_head:,}")
print(f"GPT-2 as published: {published.total:,}")
by_part = count_parameters(replace(book, n_layer=1))
print(f"in a block: attention {by_part.attention:,}, MLP {by_part.mlp:,}")

# %%
print("\nthe four sizes, as published")
sizes = {}
for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"):
    c = build_config(preset=name).model
    sizes[name] = count_parameters(c)
    memory = bytes_of(sizes[name].total) / 2**20
    print(
        f"{name:<12} {c.n_layer:>3} layers x {c.n_embd:<5} {c.n_head:>3} heads {sizes[name].total:>14,} {memory:>9,.1f} MiB"
    )

# %%
figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
left = [0.0] * len(sizes)
for part in ("embedding", "positions", "attention", "mlp", "norms"):
    widths = [getattr(size, part) / 1e6 for size in sizes.values()]
    axes.barh(list(sizes), widths, left=left, label=part)
    left = [a + b for a, b in zip(left, widths, strict=True)]
axes.invert_yaxis()
axes.set_xlabel("million parameters")
axes.set_title("the four sizes of GPT-2, and what they are made of", fontsize="medium")
axes.legend(frameon=False, fontsize="small", loc="upper right")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/07_model.png", dpi=120)
