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
    print(f"{name:<8}", *(f"{value:11.7f}" for value in values), f"   last / first {values[-1] / values[0]:.0f}")

# %% [markdown]
# The same in a GPT of twelve blocks, built from `model/textbook.py`, whose switches take the residual connections away,
# or put the norm after each sum (post-norm, as in 2017) instead of before each part (pre-norm, GPT-2). The gradient is that
# by what each block's MLP reads: how much comes back so far.

# %%
text = Path(torch.__file__).parent.joinpath("nn", "functional.py").read_text(encoding="utf-8")[:20_000]
characters = sorted(set(text))
ids, V = torch.tensor([characters.index(c) for c in text]), len(characters)
SHAPE = {"architecture": "textbook", "vocab_size": V, "context_length": 16, "n_layer": 12, "n_head": 2, "n_embd": 24}
KINDS = {"pre-norm": {}, "post-norm": {"norm_position": "post"}, "no residual": {"residual": False}}


def batch(generator: torch.Generator) -> torch.Tensor:
    """Twelve places of a file that every reader has: (12, 17)."""
    return ids[torch.randint(len(ids) - 17, (12, 1), generator=generator) + torch.arange(17)]


def block_gradients(change: dict[str, object]) -> list[float]:
    model, read = build_model(GPTConfig(**SHAPE | change), seed=1), []
    for block in model.blocks:
        block.mlp.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    tokens = batch(torch.Generator().manual_seed(1))
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    return [gradient.abs().mean().item() for gradient in torch.autograd.grad(loss, read)]


by_block = {name: block_gradients(change) for name, change in KINDS.items()}
print("\nmean absolute gradient that comes back to the MLP of the first and of the last of twelve blocks")
for name, values in by_block.items():
    print(f"{name:<12}{values[0]:10.1e}{values[-1]:10.1e}   last / first {values[-1] / values[0]:,.1f}")

# %% [markdown]
# And trained side by side. Without residual connections nothing is learned but how often each character comes. With them both
# places of the norm work at a careful rate. At a higher one pre-norm is held up, and post-norm learns no more than those
# frequencies, unless the rate rises slowly (Xiong et al. 2020, 2002.04745). With other seeds it happens at other rates.


# %%
def train(change: dict[str, object], rate: float, warmup: int) -> list[float]:
    model = build_model(GPTConfig(**SHAPE | change), seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    generator, losses = torch.Generator().manual_seed(2), []
    for step in range(150):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / (warmup + 1))
        tokens = batch(generator)
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


trials = [(name, 3e-3, 0) for name in KINDS] + [("pre-norm", 8e-3, 0), ("post-norm", 8e-3, 0), ("post-norm", 8e-3, 120)]
by_frequency = torch.distributions.Categorical(torch.bincount(ids).float()).entropy().item()
print(f"\nloss after 150 steps; by frequency alone it is {by_frequency:.3f}", flush=True)
curves = {}
for name, rate, warmup in trials:
    losses = curves[name, rate, warmup] = train(KINDS[name], rate, warmup)
    print(f"{name:<12} rate {rate:.0e}, warmup {warmup:>3} {sum(losses[-10:]) / 10:8.3f}", flush=True)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for name in KINDS:
    left.semilogy(range(1, 13), by_block[name], "o-", markersize=3, label=name)
for (name, rate, warmup), losses in curves.items():  # those that lie on each other: the broken line on top
    smooth = torch.tensor(losses).unfold(0, 10, 1).mean(dim=-1).tolist()
    style = f"C{[*KINDS].index(name)}" + ("--" if warmup else "-" if rate < 5e-3 else ":")
    right.plot(range(10, 151), smooth, style, label=f"{name}, {rate:.0e}{', warmup' if warmup else ''}")
left.legend(frameon=False, fontsize="small", loc="lower right")
left.set(title="gradient that reaches each MLP", xlabel="block", ylabel="mean absolute gradient")
right.set(title="trained side by side, mean of ten steps", xlabel="step", ylabel="loss")
right.legend(frameon=False, fontsize="small")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/06_residual.png", dpi=120)
