# %% [markdown]
# # 1. The configuration
# A GPT is one page of code and a handful of numbers. These are the numbers of GPT-2's smallest size; the other sizes
# are the same page with larger ones, and so is GPT-3, but for the attention of every other layer, which is sparse there
# (Brown et al. 2020, 2005.14165).

# %%
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt

from glassgpt.config import build_config
from glassgpt.config.schema import FIELDS
from glassgpt.errors import ConfigError
from glassgpt.model.size import bytes_of, count_parameters

config = build_config(preset="gpt2").model
for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd", "dropout", "bias", "tie_embeddings"):
    print(f"{name:<16} {getattr(config, name)!s:>7}   {FIELDS[name].metadata['doc']}")

# %% [markdown]
# What follows from them is never written down twice: the width of a head is `n_embd / n_head`, the MLP is four times as
# wide as the stream. So the heads have to divide the width.

# %%
print(f"\nwidth of a head  {config.head_width}\nwidth of the MLP {config.mlp_width}")
try:
    replace(config, n_head=7)
except ConfigError as error:
    print(f"n_head 7: {error}")

# %% [markdown]
# What each entry costs. Change one, count again: layers add the same each time, width goes in squared, heads cost
# nothing (they only share the width out), words and positions are a row each.

# %%
plain = count_parameters(config)
print(f"\n{'as it is':<22} {plain.total:>13,} parameters, {bytes_of(plain.total) / 2**20:,.0f} MiB in float32")
changes = {
    "n_layer x 2": {"n_layer": 24}, "n_embd x 2": {"n_embd": 1536}, "n_head x 2": {"n_head": 24},
    "vocab_size x 2": {"vocab_size": 2 * 50257}, "context_length x 2": {"context_length": 2048},
    "untied": {"tie_embeddings": False},
}  # fmt: skip
counts = {"as it is": plain}
for what, change in changes.items():
    counts[what] = count_parameters(replace(config, **change))
    print(f"{what:<22} {counts[what].total:>13,}   {counts[what].total / plain.total:.2f} x")

# %% [markdown]
# The rule of thumb is 12 n_layer n_embd²: four C x C matrices in attention, two C x 4C in the MLP. It leaves out
# embeddings and biases, and is better the larger the model.

# %%
print("\n12 n_layer n_embd² against the blocks' own count")
for size in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt3-175b"):
    c = build_config(preset=size).model
    rule, exact = 12 * c.n_layer * c.n_embd**2, count_parameters(c)
    print(f"{size:<12} {rule:>15,} {exact.attention + exact.mlp:>15,}   of {exact.total:>15,} in all")

# %%
parts = ("embedding", "positions", "attention", "mlp", "norms", "head")
figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
left = [0.0] * len(counts)
for part in parts:
    sizes = [getattr(count, part) / 1e6 for count in counts.values()]
    axes.barh(list(counts), sizes, left=left, label=part)
    left = [a + b for a, b in zip(left, sizes, strict=True)]
axes.invert_yaxis()
axes.set_xlabel("million parameters")
axes.set_xlim(0, 1.05 * max(left))
axes.set_title("GPT-2 (124M), and one entry changed at a time", fontsize="medium")
axes.legend(frameon=False, ncols=3, fontsize="small")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/01_configuration.png", dpi=120)
