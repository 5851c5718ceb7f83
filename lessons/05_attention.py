# %% [markdown]
# # 5. Self-attention: first one head, then the mask, then many heads
# Every position asks (query), every position offers (key), and what is taken along are values. How well a question fits
# an offer is their product; a softmax makes shares of it; the new vector is the mixture.

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.model.attention import causal_mask, explicit_attention, fused_attention
from glassgpt.model.gpt2 import Attention

torch.manual_seed(123)
words = ["Your", "journey", "starts", "with", "one", "step"]
T, C, D = len(words), 12, 4
x = torch.randn(T, C)

# %% [markdown]
# Without anything learned: the score of two words is the product of their vectors, so each looks mostly at itself.

# %%
scores = x @ x.T  # (T, T)
simple = scores.softmax(dim=-1)
print(f"shares of a word add up to {simple.sum(dim=-1)[0].item():.3f}; {words[1]!r} takes {simple[1, 1]:.2f} of itself")

# %% [markdown]
# With three matrices that can be learned. Products of longer vectors are larger, and a softmax of large numbers takes
# one and leaves the rest without a gradient: hence the division by the root of the width.

# %%
q, k, v = (nn.Linear(C, D, bias=False)(x) for _ in range(3))  # (T, D) each
scores = q @ k.T / math.sqrt(D)
weights = scores.softmax(dim=-1)
mixed = weights @ v  # (T, D)
print(f"\nqueries {tuple(q.shape)}, scores {tuple(scores.shape)}, mixed {tuple(mixed.shape)}")
wide = torch.randn(6, 768) @ torch.randn(768, 6)
divided = (wide / math.sqrt(768)).softmax(dim=-1).max().item()
print(f"largest share at width 768: {wide.softmax(dim=-1).max():.3f}; divided by the root: {divided:.3f}")

# %% [markdown]
# A model that learns to say the next word must not see it. The mask takes out what comes later *before* the softmax
# (minus infinity becomes a share of zero), so that the rest still adds up to one.

# %%
mask = causal_mask(T, T, x.device)  # True where one may look
masked = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
print(f"\nthe first word can look at itself only: {masked[0].tolist()}")
print(
    f"each row still adds up to {masked.sum(dim=-1).min().item():.3f}, above the diagonal {masked.triu(1).sum().item()}"
)
by_hand = masked @ v
as_batch = (t.view(1, 1, T, D) for t in (q, k, v))  # (B, H, T, D)
print(f"by hand against attention.py: {(by_hand - explicit_attention(*as_batch)[0, 0]).abs().max().item():.1e}")

# %% [markdown]
# Many heads: the stream is cut into H pieces of C / H, each with its own questions. One matrix makes all queries, keys
# and values at once; one more puts the heads' answers back into the stream.


# %%
def many_heads(x: Tensor, attention: Attention, n_head: int) -> Tensor:
    """(B, T, C) -> (B, T, C), with the matrices of the model's own attention."""
    _, T, C = x.shape
    q, k, v = (x @ attention.c_attn.weight.T + attention.c_attn.bias).split(C, dim=-1)
    heads = []
    for h in range(n_head):
        one = slice(h * C // n_head, (h + 1) * C // n_head)
        scores = q[..., one] @ k[..., one].transpose(1, 2) / math.sqrt(C // n_head)
        heads.append(scores.masked_fill(~causal_mask(T, T, x.device), -math.inf).softmax(dim=-1) @ v[..., one])
    return torch.cat(heads, dim=-1) @ attention.c_proj.weight.T + attention.c_proj.bias


config = GPTConfig(vocab_size=9, context_length=8, n_layer=1, n_head=3, n_embd=C)
attention = Attention(config, layer=0)
batch = torch.stack((x, x.flip(0)))
apart = (many_heads(batch, attention, 3) - attention(batch, None)).abs().max()
print(f"\nthree heads by hand against model/gpt2.py: {apart:.1e}")
q, k, v = torch.randn(3, 2, 3, T, D).unbind()
print(
    f"fused against explicit:                    {(fused_attention(q, k, v) - explicit_attention(q, k, v)).abs().max():.1e}"
)
later = batch.clone()
later[:, -1] += 1
changed = (attention(later, None) - attention(batch, None)).abs().amax(dim=(0, 2)) > 0
print(f"another last word changes the positions {changed.nonzero().flatten().tolist()}, and no earlier one")

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
pictures = (("word by word, nothing learned", simple), ("queries and keys", weights), ("and the causal mask", masked))
for one, (title, picture) in zip(axes, pictures, strict=True):
    shown = one.imshow(picture.detach().numpy(), cmap="Blues", vmin=0, vmax=1)
    one.set_title(title, fontsize="medium")
    one.set_xticks(range(T), words, rotation=60)
    one.set_yticks(range(T), words)
figure.supxlabel("is looked at", fontsize="medium")
figure.supylabel("looks", fontsize="medium")
figure.colorbar(shown, ax=axes, label="share", shrink=0.7)
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/05_attention.png", dpi=120)
