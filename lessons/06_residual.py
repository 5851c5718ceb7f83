# %% [markdown]
# # 6. Residual connections, and where the norm stands
# Each part adds to the stream instead of replacing it. So the gradient has a way back that no matrix makes weaker, and
# the first layers of a deep model learn as well as the last.

# %%
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from glassgpt.config import GPTConfig
from glassgpt.model import build_model


class Stack(nn.Module):
    """Linear and GELU, again and again; the input of each layer is added to its output, or not."""

    def __init__(self, sizes: list[int], residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in pairwise(sizes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            y = layer(x)
            x = x + y if self.residual and x.shape == y.shape else y
        return x


def mean_gradients(residual: bool) -> list[float]:
    torch.manual_seed(123)
    stack = Stack([3, 3, 3, 3, 3, 1], residual)
    F.mse_loss(stack(torch.tensor([[1.0, 0.0, -1.0]])), torch.zeros(1, 1)).backward()
    return [layer[0].weight.grad.abs().mean().item() for layer in stack.layers]


print("mean absolute gradient of the weights, layer by layer")
gradients = {"without": mean_gradients(residual=False), "with": mean_gradients(residual=True)}
for name, values in gradients.items():
    print(
        f"{name:<8}" + "".join(f"{value:12.7f}" for value in values) + f"   last / first {values[-1] / values[0]:.0f}"
    )

# %% [markdown]
# The same in a GPT of twelve blocks, built from `model/textbook.py`, whose switches take the residual connections away,
# or put the norm after each sum (post-norm, as in 2017) instead of before each part (pre-norm, GPT-2).

# %%
text = Path(torch.__file__).parent.joinpath("nn", "functional.py").read_text(encoding="utf-8")[:20_000]
characters = sorted(set(text))
ids = torch.tensor([characters.index(c) for c in text])
SHAPE = {"architecture": "textbook", "context_length": 16, "n_layer": 12, "n_head": 2, "n_embd": 24}
SHAPE["vocab_size"] = len(characters)
KINDS = {"pre-norm": {}, "post-norm": {"norm_position": "post"}, "no residual": {"residual": False}}


def batch(generator: torch.Generator) -> torch.Tensor:
    """Twelve places of a file that every reader has: (12, 17)."""
    starts = torch.randint(len(ids) - 17, (12, 1), generator=generator)
    return ids[starts + torch.arange(17)]


def block_gradients(change: dict[str, object]) -> list[float]:
    model = build_model(GPTConfig(**SHAPE | change), seed=1)
    tokens = batch(torch.Generator().manual_seed(1))
    F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    return [block.mlp.c_fc.weight.grad.abs().mean().item() for block in model.blocks]


by_block = {name: block_gradients(change) for name, change in KINDS.items()}
print("\nmean absolute gradient of c_fc in the first and the last of twelve blocks")
for name, values in by_block.items():
    print(f"{name:<12}{values[0]:10.1e}{values[-1]:10.1e}")

# %% [markdown]
# And trained side by side. Without residual connections nothing is learned but how often each character comes. With them both
# places of the norm work at a careful rate; at a higher one, post-norm stays where it began: it needs a warmup (Xiong et al.
# 2020, 2002.04745).


# %%
def train(change: dict[str, object], rate: float) -> list[float]:
    model = build_model(GPTConfig(**SHAPE | change), seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    generator, losses = torch.Generator().manual_seed(2), []
    for _ in range(150):
        tokens = batch(generator)
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


trials = [("pre-norm", 3e-3), ("post-norm", 3e-3), ("no residual", 3e-3), ("pre-norm", 8e-3), ("post-norm", 8e-3)]
curves = {(name, rate): train(KINDS[name], rate) for name, rate in trials}
shares = torch.bincount(ids) / len(ids)
by_frequency = -(shares * shares.log()).sum().item()
print(f"\nloss after 150 steps; by frequency alone it is {by_frequency:.3f}")
ends = {trial: sum(losses[-10:]) / 10 for trial, losses in curves.items()}
for (name, rate), end in ends.items():
    print(f"{name:<12} rate {rate:.0e} {end:8.3f}")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for name in KINDS:
    left.semilogy(range(1, 13), by_block[name], "o-", markersize=3, label=name)
for (name, rate), losses in curves.items():
    smooth = torch.tensor(losses).unfold(0, 10, 1).mean(dim=-1).tolist()
    right.plot(smooth, f"C{[*KINDS].index(name)}{'-' if rate < 5e-3 else ':'}", label=f"{name}, {rate:.0e}")
left.set(title="gradient at the start", xlabel="block", ylabel="mean absolute gradient")
right.set(title="trained side by side, mean of ten steps", xlabel="step", ylabel="loss")
right.legend(frameon=False, fontsize="small")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/06_residual.png", dpi=120)
