# %% [markdown]
# # 11. A scaling law
# How much better is a larger model? Trained on the same text, the loss falls with size along a curve that is nearly
# straight on logarithmic axes (Kaplan et al. 2020, 2001.08361). So small models foretell a larger one, before anybody
# pays for it.

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from glassgpt.config import GPTConfig, TrainConfig
from glassgpt.model import build_model
from glassgpt.model.size import count_parameters
from glassgpt.train.optimizer import build_optimizer

folder = Path(torch.__file__).parent
text = "".join(
    (folder / name).read_text(encoding="utf-8") for name in ("nn/functional.py", "_tensor.py", "serialization.py")
)
characters = sorted(set(text))
ids = torch.tensor([characters.index(c) for c in text])
train_ids, val_ids = ids[: int(0.95 * len(ids))], ids[int(0.95 * len(ids)) :]
T, ROWS, STEPS = 32, 16, 300
print(f"{len(ids):,} characters, {STEPS} steps of {ROWS} x {T}: {STEPS * ROWS * T / len(train_ids):.1f} times the text")


def trained(width: int) -> tuple[int, float]:
    """Parameters of the blocks, and the loss on text that was held back."""
    config = GPTConfig(
        architecture="modern", vocab_size=len(characters), context_length=T, n_layer=2, n_head=2, n_embd=width
    )
    model = build_model(config, seed=1)
    train = TrainConfig(
        max_steps=STEPS, optimizer="muon", learning_rate=6e-3, matrix_learning_rate=0.02, batch_size=ROWS
    )
    optimizer, generator = build_optimizer(model, train), torch.Generator().manual_seed(1)
    for step in range(STEPS):
        starts = torch.randint(len(train_ids) - T, (ROWS, 1), generator=generator)
        windows = train_ids[starts + torch.arange(T + 1)]
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        for group in optimizer.groups:
            group.learning_rate = group.rate * 6e-3 * min(1.0, 2 * (1 - step / STEPS))  # level, then falling
        optimizer.step()
    with torch.inference_mode():
        n = (len(val_ids) - 1) // T * T
        val_loss = F.cross_entropy(model(val_ids[:n].view(-1, T)).flatten(0, 1), val_ids[1 : n + 1])
    count = count_parameters(config)
    return count.attention + count.mlp, val_loss.item()


# %%
LADDER, FORECAST = (8, 12, 16, 24, 32), 64
sizes, losses = [], []
print(f"\n{'width':>6} {'parameters in blocks':>21} {'loss':>7}")
for width in LADDER:
    size, loss = trained(width)
    sizes.append(size)
    losses.append(loss)
    print(f"{width:>6} {size:>21,} {loss:>7.3f}")

# %% [markdown]
# The law: loss = (a / N)^b. In logarithms a straight line, so that a least-squares fit is all that is needed.

# %%
x, y = torch.tensor([math.log(s) for s in sizes]), torch.tensor([math.log(v) for v in losses])
slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
intercept = y.mean() - slope * x.mean()
law = lambda size: math.exp(intercept + slope * math.log(size))  # noqa: E731
largest_miss = max(abs(law(s) / v - 1) for s, v in zip(sizes, losses, strict=True))
print(
    f"\nloss = {math.exp(intercept):.2f} N^{slope:.3f}; it misses its own points by {100 * largest_miss:.1f} % at most"
)

# %% [markdown]
# The test: a model twice as wide as the largest one, foretold and then trained.

# %%
size, loss = trained(FORECAST)
print(f"width {FORECAST}, {size:,} parameters: forecast {law(size):.3f}, measured {loss:.3f}", end="")
print(f", {100 * (law(size) / loss - 1):+.1f} %")

# %%
figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
grid = [math.exp(math.log(sizes[0]) + i / 50 * math.log(size / sizes[0])) for i in range(51)]
axes.loglog(grid, [law(s) for s in grid], color="#9ecae1", label="the law, fitted on five")
axes.loglog(sizes, losses, "o", color="#2171b5", label="the ladder")
axes.loglog([size], [loss], "*", color="#d94801", markersize=13, label="not in the fit")
axes.set(xlabel="parameters in blocks", ylabel="loss, nats a character")
ticks = [round(v, 1) for v in (losses[0], losses[2], losses[-1], loss)]
axes.set_yticks(ticks, [str(t) for t in ticks])
axes.minorticks_off()
axes.legend(frameon=False)
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/11_scaling_law.png", dpi=120)
