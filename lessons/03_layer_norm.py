# %% [markdown]
# # 3. Layer normalisation by hand
# Each position's vector is moved to mean 0 and stretched to variance 1, over its own features; then a learned scale and
# shift say what mean and variance the next part wants. It keeps the numbers of a deep stack in a range in which it can
# learn.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from glassgpt.config import GPTConfig
from glassgpt.model.textbook import LayerNorm

torch.manual_seed(123)
batch = torch.randn(2, 5)
layer = nn.Sequential(nn.Linear(5, 6), nn.ReLU())
x = layer(batch)  # (2, 6): two positions, six features each
print("two positions, six features:\n", x.detach())

# %% [markdown]
# `dim=-1` is over the features of a position, `dim=0` would be over the positions of a batch.

# %%
torch.set_printoptions(sci_mode=False, precision=4)
print("\nmean over dim=-1, a number a position:", x.mean(dim=-1).detach())
print("mean over dim=0, a number a feature:  ", x.mean(dim=0).detach())

# %% [markdown]
# The variance is a sum divided by N, not by N - 1 (`unbiased=False`): with 768 features it hardly matters, with six it
# does. `eps` stands under the root for a position whose features are all the same, which would be 0 / 0 without it; it is
# also why the variance comes out a little below 1.

# %%
mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, unbiased=False)
eps = 1e-5
normed = (x - mean) / torch.sqrt(variance + eps)
after = normed.detach()
print(f"\nafter: largest mean {after.mean(dim=-1).abs().max():.0e}, variance {after.var(dim=-1, unbiased=False)}")
print("variance by N - 1 instead of N:", (x.var(dim=-1) / x.var(dim=-1, unbiased=False)).detach(), "times as much")
flat = torch.full((6,), 3.0)
spread = flat.var(unbiased=False)
print("all features the same: with eps", (flat - flat.mean()) / torch.sqrt(spread + eps))
print("                    without it", (flat - flat.mean()) / torch.sqrt(spread))

# %% [markdown]
# The same as torch's, and as the model's own (`model/textbook.py`), which has the scale and shift besides.

# %%
ours = LayerNorm(GPTConfig(vocab_size=9, n_head=1, n_embd=6))(x)
print(f"\nlargest difference from torch's: {(normed - nn.LayerNorm(6)(x)).abs().max().item():.1e}")
print(f"from the model's own:            {(normed - ours).abs().max().item():.1e}")

# %% [markdown]
# Batch normalisation goes the other way: a mean for each feature over the batch. So what it does to one text depends on
# the others that happen to be beside it, and on how many there are. Layer normalisation sees one position, in training
# and later.

# %%
alone, together = nn.LayerNorm(6)(x[:1]), nn.LayerNorm(6)(x)[:1]
print(
    f"\nlayer norm of the first text, alone and beside the second: {'the same' if alone.equal(together) else 'different'}"
)
many = layer(torch.randn(7, 5))
one, other = nn.BatchNorm1d(6)(many[:4])[0], nn.BatchNorm1d(6)(many)[0]
print(f"batch norm of the first text among 4 and among 7: they differ by up to {(one - other).abs().max().item():.2f}")

# %% [markdown]
# What it is good for in a deep stack: twenty layers of random matrices, each a little too large. Without a norm the numbers
# grow at every layer; with one they stay where they were.

# %%
deep = torch.randn(400, 64)
spreads: dict[str, list[float]] = {"without": [], "with layer norm": []}
for name, norm in (("without", nn.Identity()), ("with layer norm", nn.LayerNorm(64))):
    torch.manual_seed(1)
    y = deep
    for _ in range(20):
        y = torch.relu(norm(y) @ (torch.randn(64, 64) * 0.25))
        spreads[name].append(y.std().item())
print("\nspread after 20 layers: " + ", ".join(f"{name} {values[-1]:.3g}" for name, values in spreads.items()))
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 2.8), layout="constrained", width_ratios=(3, 3, 2))
for axes, values, title in (
    (left, x, "before: each row its own range"),
    (middle, normed, "after: mean 0, variance 1 a row"),
):
    axes.imshow(values.detach().numpy(), cmap="RdBu", vmin=-2.2, vmax=2.2)
    axes.set(title=title, xlabel="feature", ylabel="position", yticks=[0, 1])
    for (i, j), value in [((i, j), values[i, j].item()) for i in range(2) for j in range(6)]:
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if abs(value) > 1.4 else "black")
for name, spread_at in spreads.items():
    right.semilogy(range(1, 21), spread_at, label=name)
right.set(title="spread of a deep stack", xlabel="layer", ylabel="standard deviation")
right.legend(frameon=False, fontsize="small")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/03_layer_norm.png", dpi=120)
