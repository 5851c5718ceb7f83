"""What `glassgpt plan` says beforehand, against what training then takes: peak memory of the process, and seconds of a step.

    python bench/plan.py
    python bench/plan.py --rounds 2 --pairs plan.jsonl   keeps each pair; the page is of all in the file
    python bench/plan.py --own-time       only how long `glassgpt plan` itself takes, for the README's table

Each configuration is trained for a few steps by `glassgpt train`, and then given to `glassgpt plan`, several times in turn:
as its config.toml, where nothing is left to decide, and as the same flags, from which plan has to decide as training did.
Writes its part of docs/benchmarks.md. A round takes a quarter of an hour: with `--pairs`, nothing is lost where it is stopped,
and more rounds can follow.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from claims import GLASSGPT, machine, spread, timed, write_claims

from train import write_page

CHARACTERS = 600_000
CHARS, BPE = "chars", "bpe"
FROM_FILE, FROM_FLAGS = "from file", "from flags"
# Name, data, flags. Each saves once on its way, as any longer run does; most take the twenty seconds from which on training
# tries bfloat16.
CONFIGURATIONS = {
    "`char-cpu` for 400 steps": (CHARS, "--preset char-cpu --max-steps 400 --save-every 200"),
    "`mini` for 250 steps": (BPE, "--preset mini --minutes 0 --max-steps 250 --save-every 125"),
    "`char-best` for 40 steps": (CHARS, "--preset char-best --minutes 0 --max-steps 40 --save-every 20"),
    "`char-cpu`, 512 wide, 2 replicas of 16": (
        CHARS,
        "--preset char-cpu --n-embd 512 --batch-size 64 --micro-batch-size 16 --replicas 2 --max-steps 60 --save-every 30",
    ),
    "`mini`, 256 wide, 2 replicas of 2": (
        BPE,
        "--preset mini --minutes 0 --n-embd 256 --batch-size 16 --micro-batch-size 2 --replicas 2 --max-steps 60 "
        "--save-every 30",
    ),
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
    seconds = time.monotonic() - before
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    os.sync()  # a checkpoint of a gigabyte is still on its way to the disk, and what comes next would be slower
    return printed, usage.ru_maxrss * 1024, seconds


def trained(data: str, flags: str, folder: Path, out: str) -> dict[str, Any]:
    _, peak, _ = run([*GLASSGPT, "train", data, *flags.split(), "--log-every", "1", "--out", out], folder)
    rows = [json.loads(line) for line in (folder / out / "metrics.jsonl").read_text("utf-8").splitlines()]
    last = [row for row in rows if "train_loss" in row][-1]  # its speed is the median of the last steps
    config = tomllib.loads((folder / out / "config.toml").read_text("utf-8"))
    return {
        "memory": peak,
        "tokens_per_second": last["tokens_per_second"],
        "tokens_a_step": config["train"]["batch_size"] * config["model"]["context_length"],
        "vocab_size": config["model"]["vocab_size"],
        "decided": [config["machine"]["precision"], config["machine"]["replicas"], config["train"]["micro_batch_size"]],
    }


def planned(folder: Path, flags: list[str]) -> dict[str, Any]:
    printed, _, seconds = run([*GLASSGPT, "plan", *flags, "--json"], folder)
    here = json.loads(printed)["machines"][0]
    return {
        "memory": here["needed"],
        "tokens_per_second": here["tokens_per_second"],
        "seconds": seconds,
        "decided": [here["precision"], here["replicas"], here["micro_batch_size"]],
    }


def ratios(pairs: list[dict[str, Any]], way: str) -> tuple[list[float], list[float]]:
    """Planned by measured: memory, and seconds of a step."""
    measured = [pair["trained"] for pair in pairs]
    said = [pair[way] for pair in pairs]
    return (
        [a["memory"] / b["memory"] for a, b in zip(said, measured, strict=True)],
        [b["tokens_per_second"] / a["tokens_per_second"] for a, b in zip(said, measured, strict=True)],
    )


def table(found: dict[str, list[dict[str, Any]]], about: str) -> str:
    counts = [len(pairs) for pairs in found.values()]
    least, most = min(counts), max(counts)
    times = f"{least}{f' to {most}' * (least < most)} round{'s' * (most > 1)}"
    lines = [
        f"""## What `plan` says, and what is

`python bench/plan.py`: each configuration trained for a few steps, and planned; median (least to most) of {times} in
turn. From its config.toml, which has what training decided (precision, replicas, micro batch), so that both compute the
same; and from the same flags, where plan decides for itself, in a fraction of the time that training has for it. Memory is
the peak of the whole process, in MiB, a checkpoint on the way included.

| configuration | memory | planned / measured | ms a step | planned / measured |
|---|---|---|---|---|"""
    ]
    for name, pairs in found.items():
        memory = [pair["trained"]["memory"] / 2**20 for pair in pairs]
        steps = [1000 * pair["trained"]["tokens_a_step"] / pair["trained"]["tokens_per_second"] for pair in pairs]
        of_memory, of_time = ratios(pairs, FROM_FILE)
        lines.append(
            f"| {name} | {spread(memory, 0)} | {spread(of_memory, 2)} | {spread(steps, 0)} | {spread(of_time, 2)} |"
        )
    lines += [
        "",
        "From the flags alone; decided alike: in how many of the rounds precision, replicas and micro batch were training's.",
        "",
        "| configuration | training decided | alike | memory, planned / measured | ms a step, planned / measured |",
        "|---|---|---|---|---|",
    ]
    for name, pairs in found.items():
        alike = sum(pair[FROM_FLAGS]["decided"] == pair["trained"]["decided"] for pair in pairs)
        of_memory, of_time = ratios(pairs, FROM_FLAGS)
        decided = " or ".join(dict.fromkeys(in_words(pair["trained"]["decided"]) for pair in pairs))
        lines.append(
            f"| {name} | {decided} | {alike} of {len(pairs)} | {spread(of_memory, 2)} | {spread(of_time, 2)} |"
        )
    seconds = [[pair[way]["seconds"] for pairs in found.values() for pair in pairs] for way in (FROM_FILE, FROM_FLAGS)]
    took = f"`glassgpt plan` itself took {spread(seconds[0], 1)} s from the file, {spread(seconds[1], 1)} s from the flags."
    lines += ["", f"{took} {about}", ""]
    return "\n".join(lines)


def in_words(decided: list[Any]) -> str:
    precision, replicas, micro_batch_size = decided
    return f"{precision}, {micro_batch_size}{f' x {replicas}' if replicas > 1 else ''}"


# Of the plans, what training decides is open in each.
TIMED = (
    "",
    "--preset gpt2",
    "--preset char-best",
    "--preset gpt2 --gradient-checkpointing",
    "--from gpt2 --lora 8",
    "--compare",
)


def own_time() -> dict[str, str]:
    """Seconds of the whole command, as an installed package has it: with its bytecode; beside what PyTorch alone takes."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    commands = {
        f"`{' '.join(['glassgpt', 'plan', *flags.split()])}`": [*GLASSGPT, "plan", *flags.split()] for flags in TIMED
    }
    commands["`import torch` in Python, a process of its own, for comparison"] = [sys.executable, "-c", "import torch"]
    found: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        timed([*GLASSGPT, "plan"], Path(folder))  # writes it
        for _ in range(7):
            for name, command in commands.items():
                found[name].append(timed(command, Path(folder))[0])
    return {name: f"{spread(seconds, 2)} s" for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="JSON lines, which are added to")
    parser.add_argument("--own-time", action="store_true")
    options = parser.parse_args()
    if options.own_time:
        figures = own_time()
        write_claims("python bench/plan.py --own-time", figures)
        print(figures)
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONFIGURATIONS}
    if options.pairs and options.pairs.exists():
        for line in options.pairs.read_text("utf-8").splitlines():
            kept = json.loads(line)
            found[kept["name"]].append(kept["pair"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        for number in range(options.rounds):
            for index, (name, (data, flags)) in enumerate(CONFIGURATIONS.items()):
                out = f"run-{index}-{number}"
                run_itself = trained(data, flags, folder, out)
                open_flags = flags.split()
                if "--vocab-size" not in open_flags:  # training has it from the data
                    open_flags += ["--vocab-size", str(run_itself["vocab_size"])]
                pair = {
                    "trained": run_itself,
                    FROM_FILE: planned(folder, ["--config", f"{out}/config.toml"]),
                    FROM_FLAGS: planned(folder, open_flags),
                }
                found[name].append(pair)
                if options.pairs:
                    with options.pairs.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"name": name, "pair": pair}) + "\n")
                shutil.rmtree(folder / out)  # its checkpoints may take gigabytes
                for way in (FROM_FILE, FROM_FLAGS):
                    (of_memory,), (of_time,) = ratios([pair], way)
                    print(f"{name:<64} {way:<10} memory {of_memory:.3f}  time {of_time:.3f}  {pair}", flush=True)
    about = f"{datetime.date.today().isoformat()}, {machine()}."
    write_page("plan", {"text": table(found, about)})
    print(table(found, about))


if __name__ == "__main__":
    main()
