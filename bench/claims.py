"""Measures what the README claims and writes it down: docs/claims.json, and the table between the README's two marks.

    python bench/claims.py                                        the default run, its samples, the start-up time
    python bench/claims.py --yardstick plain_gpt.py --text t.txt  and char-cpu against a plain training script, in turn

A yardstick is called as `python FILE train --text TEXT --seed N` and prints one JSON object with `seconds` and
`val_loss` (nats a character over the whole last tenth of the text) as its last line.
"""

import argparse
import ast
import datetime
import json
import lzma
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent.parent
CLAIMS = HOME / "docs" / "claims.json"
MARK = re.compile(r"(<!-- claims -->\n).*?(<!-- /claims -->)", re.S)
GLASSGPT = [sys.executable, "-m", "glassgpt"]


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Seconds of the whole process, and its standard output."""
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, encoding="utf-8")
    return time.perf_counter() - begin, done.stdout


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def default_run(folder: Path) -> dict[str, str]:
    """The README's main job in a process of its own, what it left, and what xz makes of the same validation text."""
    seconds, _ = timed([*GLASSGPT, "train", "--out", "run"], folder)
    result = json.loads((folder / "run/result.json").read_text())
    from glassgpt.checkpoint import Run
    from glassgpt.train.run import open_data

    data = open_data(Run(folder / "run").config(), [], result["data_fingerprint"])
    tokenizer = data.tokenizer()
    text = b"".join(tokenizer.token_bytes(int(i)) for i in data.val if i != tokenizer.end_of_text)
    packed = 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)
    bits, baseline = result["bits_per_byte"], result["baseline_bits_per_byte"]
    return {
        "`glassgpt train`, whole command": f"{seconds:.0f} s",
        "its validation loss": f"{bits:.3f} bits a byte ({result['val_loss']:.3f} nats a token)",
        "counting byte n-grams on the same text": f"{baseline:.3f} bits a byte, {1 - bits / baseline:.0%} more",
        "`xz -9e` of the same validation text": f"{packed:.3f} bits a byte",
        "parameters, tokens trained on": f"{result['parameters']:,}, {result['tokens']:,}",
        "20 samples of 200 tokens that read as Python": f"{judged_samples(folder)} of 20",
    }


def judged_samples(folder: Path) -> int:
    """How many of 20 samples read as Python: at least two thirds of the lines that are code parse, each on its own."""
    _, text = timed([*GLASSGPT, "sample", "run", "--num-samples", "20", "--max-new-tokens", "200"], folder)
    samples = re.split(r"^--- \d+ of 20 ---\n", text, flags=re.M)[1:]
    (folder / "samples.txt").write_text(text, encoding="utf-8")
    return sum(share_that_parses(sample) >= 2 / 3 for sample in samples)


def share_that_parses(sample: str) -> float:
    """Of the lines outside docstrings, comments and open brackets, those that are Python once their block is closed."""
    lines, fine, counted, held = sample.splitlines()[:-1], 0, 0, ""
    code = re.sub(r'("""|\'\'\').*?(\1|\Z)', '""', "\n".join(lines), flags=re.S)
    for line in code.splitlines():
        stripped = line.split("#")[0].strip()
        if not stripped and not held:
            continue
        held += " " + stripped
        opened, closed = (sum(map(held.count, brackets)) for brackets in ("([{", ")]}"))
        if opened > closed and len(held) < 400:
            continue
        counted += 1
        fine += parses(held.strip())
        held = ""
    return fine / counted if counted else 0.0


def parses(line: str) -> bool:
    whole = {"else:": "if x: pass\n", "except": "try: pass\n", "finally": "try: pass\n", "elif": "if x: pass\n"}
    before = next((start for word, start in whole.items() if line.startswith(word)), "")
    after = " pass" if line.endswith(":") else ""
    after += "\nexcept E: pass" if line == "try:" else ""
    after += "\nclass x: pass" if line.startswith("@") else ""
    source = "\n".join("    " + part for part in (before + line + after).splitlines())
    try:
        ast.parse(f"async def f():\n  while x:\n{source}")
    except (SyntaxError, ValueError):
        return False
    return True


def against_yardstick(folder: Path, yardstick: Path, text: Path, seeds: list[int]) -> dict[str, str]:
    """char-cpu and the yardstick in turn, whole processes, the same seeds."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for seed in seeds:
        run = f"char-{seed}"
        command = [*GLASSGPT, "train", str(text), "--preset", "char-cpu", "--seed", str(seed), "--out", run]
        seconds, _ = timed(command, folder)
        ours.append((seconds, json.loads((folder / run / "result.json").read_text())["val_loss"]))
        seconds, out = timed(
            [sys.executable, str(yardstick), "train", "--text", str(text), "--seed", str(seed)], folder
        )
        theirs.append((seconds, json.loads(out.splitlines()[-1])["val_loss"]))
        print(f"seed {seed}: {ours[-1]} against {theirs[-1]}", file=sys.stderr, flush=True)
    ratios = [b[0] / a[0] for a, b in zip(ours, theirs, strict=True)]
    return {
        "tinyshakespeare, `--preset char-cpu`, whole command": f"{spread([s for s, _ in ours])} s",
        "its validation loss": f"{spread([loss for _, loss in ours], 3)} nats a character",
        "a plain script with the best-known small recipe": f"{spread([s for s, _ in theirs])} s, "
        f"{spread([loss for _, loss in theirs], 3)} nats",
        "ratio of times, pair by pair": f"{spread(ratios)} x",
    }


def start_up(folder: Path) -> dict[str, str]:
    return {"`glassgpt --help`": f"{spread([timed([*GLASSGPT, '--help'], folder)[0] for _ in range(11)], 2)} s"}


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, no GPU used"


def table(groups: list[dict[str, Any]]) -> str:
    rows = [
        f"| {claim} | {figure} | `{group['command']}` | {group['date']} |"
        for group in groups
        for claim, figure in group["figures"].items()
    ]
    return "\n".join(["| claim | last figure | command | date |", "|---|---|---|---|", *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--yardstick", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one where nothing is said")
    options = parser.parse_args()
    groups = {group["command"]: group for group in (json.loads(CLAIMS.read_text()) if CLAIMS.exists() else [])}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(exist_ok=True)
        os.environ["GLASSGPT_CACHE"] = str(folder / "cache")  # preparation is part of what is timed
        if options.yardstick:
            figures = against_yardstick(
                folder, options.yardstick.resolve(), options.text.resolve(), [1337 + i for i in range(options.seeds)]
            )
            command = "python bench/claims.py --yardstick ... --text ..."
        else:
            figures, command = default_run(folder) | start_up(folder), "python bench/claims.py"
    groups[command] = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "figures": figures,
    }
    CLAIMS.write_text(json.dumps(list(groups.values()), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    readme = HOME / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(MARK.sub(lambda m: m[1] + table(list(groups.values())) + m[2], text), encoding="utf-8")
    print(table(list(groups.values())))


if __name__ == "__main__":
    main()
