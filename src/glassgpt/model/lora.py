"""LoRA (Hu et al. 2021, 2106.09685): the weights stay as they are, and beside a matrix a narrow pair of matrices learns.

Adapters are attached to a model that is there, under its own names: `h.0.attn.c_attn` keeps `weight` and `bias`, frozen, and
gets `lora_A` and `lora_B`. Merging folds them into the weight, and the model is an ordinary one again.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.config.schema import FinetuneConfig
from glassgpt.errors import ConfigError
from glassgpt.model.language_model import LanguageModel

# The ends of the matrices' names: GPT-2's, then Qwen3's.
TARGETS: dict[str, tuple[str, ...]] = {
    "attention": (
        "attn.c_attn",
        "attn.c_proj",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
    ),
    "mlp": ("mlp.c_fc", "mlp.c_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
}
TARGETS["all"] = TARGETS["attention"] + TARGETS["mlp"]


class LoRA(NamedTuple):
    rank: int
    alpha: float
    on: Literal["attention", "mlp", "all"]


def lora_of(config: FinetuneConfig) -> LoRA | None:
    """The adapters that a run trains; None where it trains the weights."""
    return LoRA(config.lora, config.lora_alpha, config.lora_on) if config.lora else None


class LoRALinear(nn.Linear):
    """y = W x + b + (alpha / rank) B A x. W and b are frozen; A (rank, in) is drawn, B (out, rank) is 0 at first, so that
    nothing changes before the first step."""

    def __init__(self, linear: nn.Linear, lora: LoRA, generator: torch.Generator | None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = lora.alpha / lora.rank
        like = linear.weight
        self.lora_A = nn.Parameter(torch.empty(lora.rank, self.in_features, dtype=like.dtype))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, lora.rank, dtype=like.dtype))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5), generator=generator)  # as a Linear of its shape begins
        self.to(like.device)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_A), self.lora_B)

    def merged(self) -> nn.Linear:
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        with torch.no_grad():
            linear.weight = nn.Parameter(self.weight + self.scale * self.lora_B @ self.lora_A)
        linear.bias = self.bias
        return linear


def matrix_of(linear: nn.Linear) -> Tensor:
    """What a layer multiplies by, (out, in): its adapter's share included, where it has one."""
    return linear.merged().weight if isinstance(linear, LoRALinear) else linear.weight


def attach_lora(model: LanguageModel, lora: LoRA, seed: int = 0) -> None:
    """Freeze every weight and give the matrices that `lora.on` names an adapter; the same seed draws the same ones."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    chosen = [
        (name, module) for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(TARGETS[lora.on])
    ]  # fmt: skip
    narrowest = min(min(module.weight.shape) for _, module in chosen)
    if lora.rank > narrowest:
        raise ConfigError(f"lora is {lora.rank}; adapters wider than the matrices ({narrowest}) save nothing, lower it")
    for name, module in chosen:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(module, lora, generator))


def merge_lora(model: LanguageModel) -> None:
    """Fold every adapter into its matrix: the same function, without them."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.merged())
    model.requires_grad_(True)
