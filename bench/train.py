"""Training speed against a plain script, counting, and another repository: whole processes from a cold start, in turn.

    python bench/train.py --yardstick PLAIN_GPT.py --text TEXT.txt --count COUNT_TABLE.py [--nanogpt FOLDER]

Writes docs/benchmarks.md and docs/benchmarks.json, and the rows of the README's table that come from here. `--second TEXT` is
one that nothing was tuned on; where none is named, the first megabyte of Python's standard library.

A yardstick is called as `python FILE train --text TEXT --seed N`, a counting table as `python FILE TEXT`; the last line that
they print is a JSON object with `seconds` and `val_loss` (or `best`) in nats a character over the whole last tenth of the
text. Of nanoGPT its published command for a CPU is run on the text, in a copy of FOLDER.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from claims import GLASSGPT, HOME, machine, spread, timed, write_claims

PAGE, FIGURES = HOME / "docs" / "benchmarks.md", HOME / "docs" / "benchmarks.json"
COMMAND = "python bench/train.py --yardstick PLAIN_GPT.py --text TEXT.txt --count COUNT_TABLE.py"
YARDSTICK, COUNT, NANOGPT = "plain script", "counting table", "nanoGPT"
AT_ONCE, THIRD, WHOLE = "glassgpt", "glassgpt, a third of the time", "glassgpt, the same time"
FIRST, SECOND = "first text", "second text"
SECOND_BYTES = 1_000_000
BUILT_IN = "The first megabyte of Python's standard library"
PARTS = (
    "default run",
    "best",
    "best on a GPU",
    "tokens",
    "gpt2",
    "gpt2 on a GPU",
    "plan",
    "lens",
)  # of the page, after the first
# nanoGPT's README, "I only have a macbook" (a CPU).
NANOGPT_FLAGS = [
    "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12",
    "--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0",
]  # fmt: skip
# It sets its own seed; this one is added to it.
SEEDED = """import runpy, sys, torch
real, added = torch.manual_seed, int(sys.argv[1])
torch.manual_seed = lambda seed: real(seed + added)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Row(NamedTuple):
    text: str
    system: str
    seed: int
    seconds: float  # of the whole process
    val_loss: float  # nats a character


def glassgpt(folder: Path, text: Path, seed: int, *flags: str) -> tuple[float, float]:
    """`--preset char-cpu`, with nothing prepared before; whatever was left in `folder` goes."""
    for name in ("cache", "run"):
        shutil.rmtree(folder / name, ignore_errors=True)
    command = [*GLASSGPT, "train", str(text), "--preset", "char-cpu", "--seed", str(seed), "--out", "run", *flags]
    seconds, _ = timed(command, folder)
    return seconds, json.loads((folder / "run/result.json").read_text("utf-8"))["val_loss"]


def script(folder: Path, *command: str) -> tuple[float, float]:
    seconds, out = timed([sys.executable, *command], folder)
    said = json.loads(out.splitlines()[-1])
    return seconds, said["val_loss"] if "val_loss" in said else said["best"]


def nanogpt(folder: Path, repository: Path, text: Path, seed: int) -> tuple[float, float]:
    """Its own estimate of the loss is over 20 random batches; preparing the text is not counted."""
    copy = folder / "nanogpt"
    if not copy.exists():
        shutil.copytree(repository, copy)
        shutil.copy(text, copy / "data/shakespeare_char/input.txt")
        timed([sys.executable, "data/shakespeare_char/prepare.py"], copy)
    command = [sys.executable, "-c", SEEDED, str(seed), "train.py", "config/train_shakespeare_char.py", *NANOGPT_FLAGS]
    seconds, out = timed(command, copy)
    return seconds, float(re.findall(r"val loss ([\d.]+)", out)[-1])


def built_in_megabyte(folder: Path) -> Path:
    """The first megabyte of Python's standard library, in the order of its files' names."""
    place = Path(os.__file__).parent
    text = "".join(file.read_text("utf-8") for file in sorted(place.glob("*.py")))
    target = folder / "python.txt"
    target.write_bytes(text.encode("utf-8")[:SECOND_BYTES].decode("utf-8", "ignore").encode("utf-8"))
    return target


def compare(folder: Path, options: argparse.Namespace) -> Iterable[Row]:
    texts = {FIRST: options.text, SECOND: options.second or built_in_megabyte(folder)}
    for name, text in texts.items():
        if options.count:
            yield Row(name, COUNT, 0, *script(folder, str(options.count), str(text)))
        for seed in range(1337, 1337 + (options.seeds if name == FIRST else options.second_seeds)):
            yardstick = script(folder, str(options.yardstick), "train", "--text", str(text), "--seed", str(seed))
            yield Row(name, YARDSTICK, seed, *yardstick)
            yield Row(name, AT_ONCE, seed, *glassgpt(folder, text, seed))
            for system, share in ((THIRD, 3), (WHOLE, 1)):
                minutes = yardstick[0] / share / 60
                yield Row(name, system, seed, *glassgpt(folder, text, seed, "--minutes", f"{minutes:.4f}"))
            if options.nanogpt and name == FIRST:
                yield Row(name, NANOGPT, seed, *nanogpt(folder, options.nanogpt, text, seed))


def ratios(rows: list[Row], text: str, system: str) -> list[float]:
    """How many times as long the yardstick took, seed by seed."""
    theirs = {row.seed: row.seconds for row in rows if (row.text, row.system) == (text, YARDSTICK)}
    return [
        theirs[row.seed] / row.seconds
        for row in rows
        if (row.text, row.system) == (text, system) and row.seed in theirs
    ]


def page(rows: list[Row], names: dict[str, str], about: str) -> str:
    """`names`: what the two texts are."""
    lines = [
        f"""# Training speed

Written by `{COMMAND}`: whole processes from a cold start (imports, preparation of the text and all),
one after the other on one machine, with the same seeds; nats a character over the whole last tenth of the text. Median (least
to most). The plain script is a GPT of 0.8 million parameters in plain PyTorch with the best-known published small recipe (4
layers x 128, windows of 64, AdamW, 2,000 steps); the counting table backs off from groups of many characters to shorter
ones. Both are called by path (`bench/train.py` says what it asks of such files). `{AT_ONCE}` is `glassgpt train TEXT --preset
char-cpu`; where its time is given, `--minutes`, that part of what the plain script took with the same seed, is all that is
said besides. "Times as fast" is the plain script's seconds by those of the row, whole processes, whatever the losses. In
five seconds counting is still ahead of any network here; given twenty, the network is.
"""
    ]
    for text, name in names.items():
        lines += [
            f"## {name}\n",
            "| system | seconds | validation loss | times as fast | seeds |",
            "|---|---|---|---|---|",
        ]
        for system in (YARDSTICK, AT_ONCE, THIRD, WHOLE, COUNT, NANOGPT):
            if some := [row for row in rows if (row.text, row.system) == (text, system)]:
                times = ratios(rows, text, system)
                ratio = f"{spread(times)} x" if times and system != YARDSTICK else ""
                seconds, losses = [row.seconds for row in some], [row.val_loss for row in some]
                lines.append(f"| {system} | {spread(seconds)} | {spread(losses, 3)} | {ratio} | {len(some)} |")
        if any(row.text == text and row.system == NANOGPT for row in rows):
            lines += [
                "",
                "nanoGPT's loss is its own estimate over 20 random batches; preparing its text is not counted.",
            ]
        lines.append("")
    return "\n".join([*lines, about, ""])


def write_page(part: str, content: object) -> None:
    """`part` of docs/benchmarks.json anew, and the page from all of it."""
    assert part in ("train", *PARTS), part
    figures = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    figures[part] = content
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(whole_page(figures), encoding="utf-8")


def whole_page(figures: dict[str, Any]) -> str:
    parts = []
    if small := figures.get("train"):
        parts.append(page([Row(**row) for row in small["rows"]], small["names"], small["about"]))
    parts += [figures[part]["text"] for part in PARTS if part in figures]
    return "\n".join(parts)


def claims(rows: list[Row], names: dict[str, str]) -> dict[str, str]:
    """What the README says of it."""
    figures = {}
    for text, name in names.items():

        def of(system: str, text: str = text) -> list[Row]:
            return [row for row in rows if (row.text, row.system) == (text, system)]

        plain = of(YARDSTICK)
        figures[f"{name}: a plain script with the best-known small recipe"] = (
            f"{spread([r.seconds for r in plain])} s, {spread([r.val_loss for r in plain], 3)} nats a character"
        )
        for system, how in (
            (AT_ONCE, "`--preset char-cpu`"),
            (THIRD, "with a third of its time"),
            (WHOLE, "with its time"),
        ):
            some = of(system)
            figures[f"{name}: {how}"] = (
                f"{spread([r.seconds for r in some])} s, {spread([r.val_loss for r in some], 3)} nats; "
                f"{spread(ratios(rows, text, system))} times as fast"
            )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--yardstick", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--second", type=Path)
    parser.add_argument("--count", type=Path)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--second-seeds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the rows there, and nothing into docs and README")
    options = parser.parse_args()
    for name in ("yardstick", "text", "second", "count", "nanogpt"):
        if (path := getattr(options, name)) is not None:
            setattr(options, name, path.resolve())
    second = options.second.stem if options.second else BUILT_IN
    rows, names = [], {FIRST: options.text.stem, SECOND: f"{second}, on which nothing was tuned"}
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["GLASSGPT_CACHE"] = str(Path(temporary, "cache"))
        for row in compare(Path(temporary), options):
            rows.append(row)
            print(f"{row.text:<12} {row.system:<32} {row.seed:>5} {row.seconds:8.1f} s {row.val_loss:8.4f}", flush=True)
    about = f"{datetime.date.today().isoformat()}, {machine()}."
    print(page(rows, names, about))
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n", encoding="utf-8")
        return
    write_page("train", {"about": about, "names": names, "rows": [row._asdict() for row in rows]})
    write_claims(COMMAND, claims(rows, names))


if __name__ == "__main__":
    main()
