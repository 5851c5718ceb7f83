# %% [markdown]
# # 4. GELU, and the MLP that widens four times
# Between two matrices something has to bend, or they would be one matrix. ReLU cuts at zero; GELU weighs x by how large
# it is among normally distributed numbers, so that it is smooth, and a little below zero for small negative x.

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.config import build_config
from glassgpt.model.gpt2 import MLP


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def gelu_erf(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))  # x times the share of normal numbers below x


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))  # what GPT-2 was trained with


x = torch.linspace(-4, 4, 801, dtype=torch.float64)
print(f"our erf form against torch's:  {(gelu_erf(x) - F.gelu(x)).abs().max().item():.1e}")
print(f"our tanh form against torch's: {(gelu_tanh(x) - F.gelu(x, approximate='tanh')).abs().max().item():.1e}")
print(f"the two forms apart:           {(gelu_erf(x) - gelu_tanh(x)).abs().max().item():.1e}")
lowest = x[gelu_erf(x).argmin()].item()
print(
    f"GELU is lowest at x = {lowest:.2f}, where it is {gelu_erf(x).min().item():.3f}; ReLU is 0 there, and its slope too"
)

# %% [markdown]
# Half a thousandth seems nothing, but it is added up over many layers: GPT-2's published weights want the tanh form.
#
# The MLP widens each position's vector four times, bends it, and narrows it again. It looks at one position at a time:
# the only place where positions meet is attention.

# %%
torch.manual_seed(123)
config = build_config(preset="gpt2").model
mlp = MLP(config)
stream = torch.rand(2, 3, config.n_embd)
wide = mlp.c_fc(stream)
print(f"\n{tuple(stream.shape)} -> {tuple(wide.shape)} -> {tuple(mlp(stream).shape)}")
print(f"{sum(p.numel() for p in mlp.parameters()):,} parameters: two thirds of a block")
by_hand = gelu_tanh(stream @ mlp.c_fc.weight.T + mlp.c_fc.bias) @ mlp.c_proj.weight.T + mlp.c_proj.bias
print(f"by hand against the model's own: {(by_hand - mlp(stream)).abs().max().item():.1e}")
changed = stream.clone()
changed[:, 0] = 0
print(f"another first position changes the others: {not torch.equal(mlp(changed)[:, 1:], mlp(stream)[:, 1:])}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for name, function, style in (("ReLU", relu, "--"), ("GELU (erf)", gelu_erf, "-"), ("GELU (tanh)", gelu_tanh, ":")):
    left.plot(x, function(x), style, label=name, linewidth=2)
left.set(title="what bends", xlabel="x", xlim=(-3, 3), ylim=(-0.4, 3))
left.axhline(0, color="#bbbbbb", linewidth=0.8)
left.legend(frameon=False)
right.plot(x, 1e3 * (gelu_tanh(x) - gelu_erf(x)), color="#d94801")
right.set(title="tanh form minus erf form, thousandths", xlabel="x")
right.grid(alpha=0.25)
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/04_gelu_and_mlp.png", dpi=120)
