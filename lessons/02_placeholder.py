# %% [markdown]
# # 2. A placeholder GPT
# Before anything works, the whole is wired: tokens go in at one end, a score for every word of the vocabulary comes out
# at the other. The blocks and the last norm do nothing yet. What matters here are the shapes.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig, build_config
from glassgpt.tokenizer import build_tokenizer


class PlaceholderBlock(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x  # lessons 3 to 6 fill it


class PlaceholderGPT(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)  # what each token is read as
        self.wpe = nn.Embedding(config.context_length, config.n_embd)  # and where it stands
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(PlaceholderBlock() for _ in range(config.n_layer))
        self.ln_f = nn.Identity()  # lesson 3
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1])))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


# %% [markdown]
# Two texts of five tokens each. They come from a tokenizer (lesson 12 builds one); here every byte of the text is a
# token.

# %%
torch.manual_seed(123)
config = build_config(preset="gpt2").model
tokenizer = build_tokenizer("byte", lambda: iter(()), None, False)
texts = ["every", "token"]
tokens = torch.tensor([tokenizer.encode(text) for text in texts])
for text, row in zip(texts, tokens.tolist(), strict=True):
    print(f"{text!r} -> {row}")

# %% [markdown]
# A hook is told what a module has made, each time that it runs: here only its shape is noted.

# %%
model = PlaceholderGPT(config)
shapes = {"tokens (B, T)": tokens.shape}
stages = {
    "wte + wpe (B, T, C): the residual stream": model.drop,
    "after the blocks (B, T, C): none changes it": model.ln_f,
    "logits (B, T, V): a score for every word": model.lm_head,
}
for what, module in stages.items():
    module.register_forward_hook(lambda _, inputs, made, what=what: shapes.update({what: made.shape}))
logits = model(tokens)
for what, shape in shapes.items():
    print(f"{what:<45}{tuple(shape)}")

# %% [markdown]
# Nothing has been learned, so the scores are noise: the likeliest of fifty thousand words gets a thousandth. And since
# nothing mixes the positions, the same token at the same place gives the same scores, whatever stands before it. That is what
# attention is for.

# %%
probabilities = logits.softmax(dim=-1)
print(f"\nthe likeliest next token has {probabilities.max():.4f}")
swapped = tokens.clone()
swapped[0, 0] = tokens[1, 0]
same = torch.equal(model(swapped)[0, 1:], logits[0, 1:])
print(f"another first token changes the scores after the others: {not same}")

# %%
figure, axes = plt.subplots(figsize=(9, 2.6), layout="constrained")
axes.axis("off")
stations = [
    ("tokens", "(B, T)"), ("wte + wpe", "(B, T, C)"), (f"{config.n_layer} blocks\n(empty)", "(B, T, C)"),
    ("ln_f\n(empty)", "(B, T, C)"), ("lm_head", "(B, T, V)"),
]  # fmt: skip
for i, (name, shape) in enumerate(stations):
    axes.text(
        i, 0.6, name, ha="center", va="center", bbox={"boxstyle": "round,pad=0.6", "fc": "#deebf7", "ec": "#2171b5"}
    )
    axes.text(i, 0.1, shape, ha="center", va="center", family="monospace")
    if i:
        axes.annotate("", (i - 0.3, 0.6), (i - 0.7, 0.6), arrowprops={"arrowstyle": "->"})
axes.set(xlim=(-0.6, len(stations) - 0.4), ylim=(-0.1, 1.1))
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/02_placeholder.png", dpi=120)
