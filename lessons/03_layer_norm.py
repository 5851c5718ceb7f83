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
print("\nmean over dim=-1, a number a position:", x.mean(dim=-1).tolist())
print("mean over dim=0, a number a feature:  ", [round(v, 4) for v in x.mean(dim=0).tolist()])

# %% [markdown]
# GPT-2 divides by N, not by N - 1 (`unbiased=False`): with 768 features it hardly matters, with six it does. `eps`
# stands under the root for a position whose features are all the same.

# %%
mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, unbiased=False)
eps = 1e-5
normed = (x - mean) / torch.sqrt(variance + eps)
print(f"\nafter: mean {normed.mean(dim=-1).tolist()}, variance {normed.var(dim=-1, unbiased=False).tolist()}")
print(f"variance by N - 1 instead of N: {(x.var(dim=-1) / x.var(dim=-1, unbiased=False)).tolist()} times as much")
flat = torch.full((1, 6), 3.0)
print(
    f"all features the same: with eps {((flat - 3) / torch.sqrt(flat.var(dim=-1, unbiased=False) + eps)).tolist()[0]}"
)

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
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for axes, values, title in (
    (left, x, "before: each row its own range"),
    (right, normed, "after: mean 0, variance 1 a row"),
):
    axes.imshow(values.detach().numpy(), cmap="RdBu", vmin=-2.2, vmax=2.2)
    axes.set(title=title, xlabel="feature", ylabel="position", yticks=[0, 1])
    for (i, j), value in [((i, j), values[i, j].item()) for i in range(2) for j in range(6)]:
        axes.text(j, i, f"{value:.2f}", ha="center", va="center")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/03_layer_norm.png", dpi=120)
