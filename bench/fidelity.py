"""Measures every comparison with a reference (tests/formats/fidelity.py) and writes docs/fidelity.md, and from it the
sentence between the README's two marks.

python bench/fidelity.py
"""

import datetime
import importlib.metadata
import platform
import random
import re
import sys
import textwrap
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
PAGE = HOME / "docs" / "fidelity.md"
MARK = re.compile(r"(<!-- fidelity -->\n).*?(<!-- /fidelity -->)", re.S)
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
    page = PAGE.read_text(encoding="utf-8")
    readme = HOME / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(MARK.sub(lambda m: m[1] + sentence(figures(page)) + m[2], text), encoding="utf-8")
    print(page)


def figures(page: str) -> dict[str, float]:
    """What docs/fidelity.md says was measured."""
    rows = re.findall(r"^\| (.+?) \| ([\d.e-]+) \| [\d.e-]+ \|$", page, re.M)
    return {name: float(measured) for name, measured in rows}


def sentence(measured: dict[str, float]) -> str:
    """The README's."""
    greedy = [figure for name, figure in measured.items() if name.startswith("GPT-2: 200 greedy tokens")]
    assert greedy and not any(greedy)
    rows = (
        "logits, float32",
        "logits, float64",
        "every gradient tensor, float32",
        "losses of ten AdamW steps, float32",
    )
    single, double, gradients, losses = (f"{measured[f'GPT-2: {row}']:.0e}".replace("e-0", "e-") for row in rows)
    text = (
        f"With the same weights, GlassGPT's logits differ from transformers' by {single} of the largest in float32 and "
        f"{double} in float64, its gradients by {gradients}, ten steps of training by {losses}, and 200 greedy tokens not "
        "at all."
    )
    return textwrap.fill(text, 125, break_on_hyphens=False) + "\n"


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
