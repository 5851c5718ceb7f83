"""What `glassgpt plan` says beforehand, against what training then takes: peak memory of the process, and seconds of a step.

    python bench/plan.py
    python bench/plan.py --own-time       only how long `glassgpt plan` itself takes, for the README's table

Each configuration is trained for a few steps by `glassgpt train`, and its config.toml then given to `glassgpt plan`, several
times in turn. Writes its part of docs/benchmarks.md.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from claims import GLASSGPT, machine, spread, timed, write_claims

from train import write_page

CHARACTERS = 600_000
CHARS, BPE = "chars", "bpe"
# Name, data, flags. Each saves once on its way, as any longer run does.
CONFIGURATIONS = {
    "`char-cpu` for 400 steps": (CHARS, "--preset char-cpu --max-steps 400 --save-every 200"),
    "`mini` for 60 steps": (BPE, "--preset mini --minutes 0 --max-steps 60 --save-every 30"),
    "`char-best` for 12 steps": (CHARS, "--preset char-best --minutes 0 --max-steps 12 --save-every 6"),
    "`baby`": (CHARS, "--preset baby --max-steps 6 --save-every 3"),
    "`gpt-384`, batch 16": (CHARS, "--preset gpt-384 --batch-size 16 --max-steps 6 --save-every 3"),
    "textbook, 4 x 256": (
        CHARS,
        "--preset baby --architecture textbook --n-layer 4 --n-head 4 --n-embd 256 --dropout 0 --batch-size 16 --max-steps 8 "
        "--save-every 4",
    ),
    "`gpt2`, batch 4": (BPE, "--preset gpt2 --vocab-size 50257 --batch-size 4 --max-steps 6 --save-every 3"),
    "`gpt2`, context 512, micro batch 2 of 4, gradient checkpointing": (
        BPE,
        "--preset gpt2 --vocab-size 50257 --context-length 512 --batch-size 4 --micro-batch-size 2 --gradient-checkpointing "
        "--max-steps 6 --save-every 3",
    ),
}


def prepare(folder: Path) -> None:
    """The text of the standard library's first modules, as characters and as a vocabulary of 4,096."""
    sources = sorted(Path(os.__file__).parent.glob("*.py"))
    text = "".join(path.read_text("utf-8", errors="ignore") for path in sources)[:CHARACTERS]
    (folder / "text.txt").write_text(text, encoding="utf-8")
    for name, kind in ((CHARS, "char"), (BPE, "bpe")):
        run([*GLASSGPT, "prepare", "text.txt", "--tokenizer", kind, "--out", name], folder)


def run(command: list[str], folder: Path) -> tuple[str, int, float]:
    """What it printed, its peak memory in bytes and its seconds."""
    before = time.monotonic()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
    assert child.stdout is not None
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    return printed, usage.ru_maxrss * 1024, time.monotonic() - before


def trained(data: str, flags: str, folder: Path, out: str) -> dict[str, float]:
    _, peak, _ = run([*GLASSGPT, "train", data, *flags.split(), "--log-every", "1", "--out", out], folder)
    rows = [json.loads(line) for line in (folder / out / "metrics.jsonl").read_text("utf-8").splitlines()]
    last = [row for row in rows if "train_loss" in row][-1]  # its speed is the median of the last steps
    return {"memory": peak, "tokens_per_second": last["tokens_per_second"]}


def planned(folder: Path, out: str) -> dict[str, float]:
    printed, _, seconds = run([*GLASSGPT, "plan", "--config", f"{out}/config.toml", "--json"], folder)
    here = json.loads(printed)["machines"][0]
    return {"memory": here["needed"], "tokens_per_second": here["tokens_per_second"], "seconds": seconds}


def table(found: dict[str, list[dict[str, Any]]], about: str) -> str:
    rounds = len(next(iter(found.values())))
    times = f"{rounds} round{'s' * (rounds > 1)}"
    lines = [
        f"""## What `plan` says, and what is

`python bench/plan.py`: each configuration trained for a few steps, and planned from its config.toml; median (least to most) of
{times} in turn. The file has what training decided (precision, replicas, micro batch), so that both compute the same.
Memory is the peak of the whole process, in MiB, a checkpoint on the way included.

| configuration | memory | planned | planned / measured | ms a step | planned / measured |
|---|---|---|---|---|---|"""
    ]
    for name, pairs in found.items():
        memory = [pair["trained"]["memory"] for pair in pairs]
        said = [pair["planned"]["memory"] for pair in pairs]
        steps = [1000 * pair["tokens_a_step"] / pair["trained"]["tokens_per_second"] for pair in pairs]
        times = [pair["trained"]["tokens_per_second"] / pair["planned"]["tokens_per_second"] for pair in pairs]
        lines.append(
            f"| {name} | {spread([m / 2**20 for m in memory], 0)} | {statistics.median(said) / 2**20:.0f} "
            f"| {spread([a / b for a, b in zip(said, memory, strict=True)], 2)} | {spread(steps, 0)} | {spread(times, 2)} |"
        )
    seconds = [pair["planned"]["seconds"] for pairs in found.values() for pair in pairs]
    lines += ["", f"`glassgpt plan` itself took {spread(seconds, 1)} s. {about}", ""]
    return "\n".join(lines)


# Precision and replicas are open in all of them, and tried.
FROM_FLAGS = ("", "--preset gpt2", "--preset char-best", "--preset gpt2 --gradient-checkpointing", "--compare")


def own_time() -> dict[str, str]:
    """Seconds of the whole command, as an installed package has it: with its bytecode."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    found: dict[str, list[float]] = {flags: [] for flags in FROM_FLAGS}
    with tempfile.TemporaryDirectory() as folder:
        timed([*GLASSGPT, "plan"], Path(folder))  # writes it
        for _ in range(7):
            for flags, seconds in found.items():
                seconds.append(timed([*GLASSGPT, "plan", *flags.split()], Path(folder))[0])
    return {f"`glassgpt plan{' ' * bool(flags)}{flags}`": f"{spread(seconds, 2)} s" for flags, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--own-time", action="store_true")
    options = parser.parse_args()
    if options.own_time:
        figures = own_time()
        write_claims("python bench/plan.py --own-time", figures)
        print(figures)
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONFIGURATIONS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        for number in range(options.rounds):
            for index, (name, (data, flags)) in enumerate(CONFIGURATIONS.items()):
                out = f"run-{index}-{number}"
                pair: dict[str, Any] = {"trained": trained(data, flags, folder, out), "planned": planned(folder, out)}
                config = (folder / out / "config.toml").read_text("utf-8")
                pair["tokens_a_step"] = setting(config, "batch_size") * setting(config, "context_length")
                found[name].append(pair)
                ratios = [pair["planned"]["memory"] / pair["trained"]["memory"]]
                ratios.append(pair["trained"]["tokens_per_second"] / pair["planned"]["tokens_per_second"])
                print(f"{name:<64} memory {ratios[0]:.3f}  time {ratios[1]:.3f}  {pair}", flush=True)
    about = f"{datetime.date.today().isoformat()}, {machine()}."
    write_page("plan", {"text": table(found, about)})
    print(table(found, about))


def setting(config: str, name: str) -> int:
    return next(int(line.split("=")[1].split("#")[0]) for line in config.splitlines() if line.startswith(f"{name} "))


if __name__ == "__main__":
    main()
