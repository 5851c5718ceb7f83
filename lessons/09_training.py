# %% [markdown]
# # 9. Training
# The text itself is the teacher: at every position the target is the token that comes next. The loss says how surprised
# the model was by it; the gradient, which way to change each number so that it would have been less.

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from glassgpt.config import GPTConfig
from glassgpt.model import build_model
from glassgpt.train.schedule import SCHEDULES

text = Path(torch.__file__).with_name("serialization.py").read_text(encoding="utf-8")[:8_000]
characters = sorted(set(text))
ids = torch.tensor([characters.index(c) for c in text])
train_ids, val_ids = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]
print(f"{len(text):,} characters of a file that every reader has, {len(characters)} different ones")

# %% [markdown]
# Targets are the tokens moved by one. A window of T tokens is T exercises at once, since no position sees what comes
# after it.

# %%
T, B = 32, 24
window = train_ids[100 : 100 + T + 1]
tokens, targets = window[:-1], window[1:]
for i in (0, 1, 2):
    print(f"after {text[100 : 101 + i]!r} comes {characters[targets[i]]!r}")

# %% [markdown]
# Cross-entropy: minus the logarithm of the probability that the token had which came. Its exponential is the
# perplexity: among how many equally likely tokens the model might as well have been guessing. Before training that is
# about the size of the vocabulary.

# %%
config = GPTConfig(vocab_size=len(characters), context_length=T, n_layer=2, n_head=4, n_embd=64)
model = build_model(config, seed=1)
logits = model(tokens[None])
by_hand = -logits[0].log_softmax(dim=-1)[torch.arange(T), targets].mean()
loss = F.cross_entropy(logits[0], targets)
print(f"\nby hand {by_hand.item():.4f}, torch's {loss.item():.4f}; ln V is {math.log(len(characters)):.4f}")
print(f"perplexity {loss.exp().item():.1f} of {len(characters)}")

# %% [markdown]
# The loop: draw windows, forward, backward, step. The learning rate rises first (Adam's averages begin empty), then
# falls along a cosine, so that the last steps settle what the first ones found.


# %%
def draw(ids: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    starts = torch.randint(len(ids) - T, (B, 1), generator=generator)
    windows = ids[starts + torch.arange(T + 1)]  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]


def rate(step: int, steps: int, highest: float = 6e-3, warmup: int = 20) -> float:
    if step < warmup:
        return highest * (step + 1) / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def loss_on(ids: torch.Tensor) -> float:
    windows = ids[: (len(ids) - 1) // T * T + 1]
    with torch.inference_mode():
        scores = model(windows[:-1].view(-1, T))
        return F.cross_entropy(scores.flatten(0, 1), windows[1:]).item()


steps, generator = 600, torch.Generator().manual_seed(2)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=0.1)
curve, checks, rates = [], [], []
print(f"\n{'step':>5} {'train':>8} {'validation':>11} {'perplexity':>11}")
for step in range(steps + 1):
    if step % 50 == 0:
        checks.append((step, loss_on(train_ids), loss_on(val_ids)))
        _, on_train, on_val = checks[-1]
        print(f"{step:>5} {on_train:>8.3f} {on_val:>11.3f} {math.exp(on_val):>11.1f}", flush=True)
    if step == steps:
        break
    optimizer.param_groups[0]["lr"] = rate(step, steps)
    tokens, targets = draw(train_ids, generator)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    curve.append(loss.item())
    rates.append(rate(step, steps))

# %% [markdown]
# **Overfitting, seen**: the text is short, the loss on it keeps falling, and on the part that is held back it rises again.
# What is learned from there on is this text by heart. GlassGPT keeps the checkpoint that was best on the held-back part.

# %%
best_step, _, best = min(checks, key=lambda check: check[2])
print(
    f"\nvalidation is best at step {best_step}: {best:.3f}; at the end, with a better training loss, {checks[-1][2]:.3f}"
)
print("the schedules that glassgpt knows:", end=" ")
print(", ".join(SCHEDULES))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=(2, 1))
left.plot(range(1, steps + 1), curve, color="#9ecae1", linewidth=1, label="each batch")
at, on_train, on_val = zip(*checks, strict=True)
left.plot(at, on_train, color="#2171b5", label="training text")
left.plot(at, on_val, "o-", color="#d94801", markersize=3, label="validation text")
left.axvline(best_step, color="#999999", linestyle=":", label="best on validation text")
left.set(xlabel="step", ylabel="loss, nats a character")
left.legend(frameon=False)
right.plot(rates, color="#636363")
right.set(title="learning rate: warmup, cosine", xlabel="step")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/09_training.png", dpi=120)
