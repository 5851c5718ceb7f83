# %% [markdown]
# # 12. Byte-pair encoding by hand
# Words are too many, characters too short. Byte-pair encoding begins with the 256 bytes and joins, again and again, the
# pair of neighbours that comes most often: frequent words end as one token, and nothing is ever unknown, since every
# text is bytes.

# %%
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from glassgpt.tokenizer import build_tokenizer

text = Path(torch.__file__).parent.joinpath("nn", "functional.py").read_text(encoding="utf-8")[:20_000]

# %% [markdown]
# GPT-2 cuts a text into words first: contractions, letters, digits, other signs, each with the space before it, and
# runs of white space. No token reaches over the end of a word. (Python's `re` has no classes of Unicode: to this
# pattern the ² of x² is a letter, to GPT-2's a digit.)

# %%
WORD = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
print(WORD.findall("It's 2 models, isn't it?   See:  _this_"))


def as_bytes(word: str) -> tuple[bytes, ...]:
    return tuple(bytes([b]) for b in word.encode())


def join(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    """(b"l", b"o", b"w") with the pair (b"l", b"o") -> (b"lo", b"w")"""
    joined, i = [], 0
    while i < len(word):
        step = 2 if word[i : i + 2] == pair else 1
        joined.append(b"".join(word[i : i + step]))
        i += step
    return tuple(joined)


# %% [markdown]
# Learning: count the neighbours in all words, join the most frequent pair, note it as a rule, count again. Where two
# pairs come equally often, the one of older tokens is first; bytes are as old as GPT-2's table of them says, the
# printable ones first.

# %%
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
ages = {bytes([b]): age for age, b in enumerate([*printable, *(b for b in range(256) if b not in printable)])}


def learn(text: str, rules: int) -> list[tuple[bytes, bytes]]:
    words, found, age = Counter(map(as_bytes, WORD.findall(text))), [], dict(ages)
    for _ in range(rules):
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], age[pair[0]], age[pair[1]]))
        words = Counter({join(word, best): count for word, count in words.items()})
        found.append(best)
        age.setdefault(b"".join(best), len(age))
    return found


RULES = 120
rules = learn(text, RULES)
for number, (a, b) in enumerate(rules[:8], 1):
    print(f"{number:>3}: {a.decode()!r} + {b.decode()!r}")

# %% [markdown]
# Encoding: cut into words, then join by the rules, in the order in which they were learned. Decoding: put the bytes
# together again.


# %%
def encode(text: str, rules: list[tuple[bytes, bytes]]) -> list[bytes]:
    tokens: list[bytes] = []
    for word in map(as_bytes, WORD.findall(text)):
        for rule in rules:
            word = join(word, rule)
        tokens += word
    return tokens


for example in ("the tensors", "transformer", "Glück"):
    tokens = encode(example, rules)
    print(f"{example!r} -> {tokens}, and back: {b''.join(tokens).decode()!r}")

# %% [markdown]
# The tokenizer that glassgpt trains with (`tokenizer/bpe.py`) learns the same rules from the same text, and cuts it
# into the same pieces.

# %%
trained = build_tokenizer("bpe", lambda: iter([text]), 256 + RULES + 1)
theirs = [trained.token_bytes(256 + i) for i in range(RULES)]
pieces = [trained.token_bytes(i) for i in trained.encode(text)]
print(f"\nrules alike: {sum(a + b == c for (a, b), c in zip(rules, theirs, strict=True))} of {RULES}")
print(f"the text in the same pieces: {pieces == encode(text, rules)}")

# %%
counts = [0, 10, 20, 40, 60, 80, RULES]
lengths = [len(text.encode()) / len(encode(text, rules[:n])) for n in counts]
print(
    f"bytes a token: {lengths[0]:.2f} without a rule, {lengths[-1]:.2f} with {RULES}; longest token {max(pieces, key=len)}"
)
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
axes.plot(counts, lengths, "o-", color="#2171b5")
axes.set(xlabel="rules", ylabel="bytes a token", title="with each rule a token holds a little more of the text")
axes.grid(alpha=0.25)
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/12_byte_pair_encoding.png", dpi=120)
