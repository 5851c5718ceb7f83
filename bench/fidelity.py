"""Measures every comparison with a reference (tests/formats/fidelity.py) and writes docs/fidelity.md.

python bench/fidelity.py
"""

import datetime
import importlib.metadata
import platform
import random
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
PAGE = HOME / "docs" / "fidelity.md"
sys.path.insert(0, str(HOME))

from rich.console import Console  # noqa: E402 - after the path that makes tests importable
from rich.progress import track  # noqa: E402
from tests.formats.fidelity import comparisons, erf_under_gpt2_weights, tokenizer_differences  # noqa: E402

from glassgpt.tokenizer import Tokenizer, build_tokenizer  # noqa: E402

INTRODUCTION = """# Is this really GPT-2?

Written by `python bench/fidelity.py`; the test suite holds every row to its limit (`tests/formats/test_fidelity.py`).

A difference is relative: of a tensor, the largest deviation divided by the reference's largest value; of a loss, the deviation
divided by the loss. The references are transformers' models with the same weights (random toy weights, every size different
from every other, no bias 0 and no norm 1), and GPT-2 as the book, nanoGPT and minGPT describe it, written plainly in
`tests/formats/references.py`. For Qwen3 in float64, transformers' RMSNorm is replaced by the same formula without its rounding
to float32. Past the context the reference is transformers' forward on the last `context_length` tokens. Of the random texts
half are characters in a row, half tokens.
"""


def main() -> None:
    rows = [("comparison", "measured", "limit"), ("---", "---:", "---:")]
    table = comparisons()
    for name in track(table, "comparing", console=Console(stderr=True)):
        comparison = table[name]
        measured = comparison.measure()
        assert measured <= comparison.limit, (name, measured)
        rows.append((name, shown(measured), shown(comparison.limit)))
    draw, gpt2 = random.Random(1), build_tokenizer("gpt2", lambda: iter(()))
    texts = [random_text(draw) for _ in range(2500)] + [random_tokens(draw, gpt2) for _ in range(2500)]
    for reference, differing in tokenizer_differences(texts).items():
        rows.append(
            (f"GPT-2's ids and decoded text of {len(texts):,} random texts, against {reference}", str(differing), "0")
        )
    rows.append(
        ("for comparison: the exact GELU under GPT-2's weights would give", shown(erf_under_gpt2_weights()), "")
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "tiktoken"))
    PAGE.write_text(
        INTRODUCTION
        + "\n"
        + "".join(f"| {' | '.join(row)} |\n" for row in rows)
        + f"\n{datetime.date.today():%Y-%m-%d}, {versions}, {platform.machine()}, CPU.\n",
        encoding="utf-8",
    )
    print(PAGE.read_text(encoding="utf-8"))


def random_text(draw: random.Random) -> str:
    return "".join(chr(code_point(draw)) for _ in range(draw.randrange(60)))


def random_tokens(draw: random.Random, tokenizer: Tokenizer) -> str:
    """The text of tokens in a row, which takes long merges; what is no UTF-8 is U+FFFD."""
    return tokenizer.decode([draw.randrange(tokenizer.vocab_size) for _ in range(draw.randrange(20))])


def code_point(draw: random.Random) -> int:
    """Mostly what texts are made of, and sometimes anything but a surrogate."""
    anything = draw.choice((draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)))
    return draw.choice((draw.randrange(32, 127), draw.randrange(32, 127), 10, 32, draw.randrange(0x3000), anything))


def shown(figure: float) -> str:
    return f"{figure:.2g}" if figure else "0"


if __name__ == "__main__":
    main()
