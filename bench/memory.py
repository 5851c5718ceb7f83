"""Peak memory of fine-tuning GPT-2 (124M, random weights of its shape) at context 1024, one sequence at a time, on a CPU.

    python bench/memory.py

Each row is a process of its own: `glassgpt train --from`, its largest resident size as the system counted it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

WAYS = {
    "full, float32": ["--precision", "float32"],
    "full, gradient checkpointing": ["--precision", "float32", "--gradient-checkpointing"],
    "adapters (--lora 8)": ["--precision", "float32", "--lora", "8"],
    "adapters, gradient checkpointing": ["--precision", "float32", "--lora", "8", "--gradient-checkpointing"],
}
LIMIT = 6.0  # GB
PARENT = """
from pathlib import Path
from glassgpt.checkpoint import save_checkpoint
from glassgpt.config import build_config
from glassgpt.model import build_model
from glassgpt.tokenizer import build_tokenizer
config = build_config(preset="gpt2").model
tokenizer = build_tokenizer("gpt2", lambda: iter(()))
weights = dict(build_model(config, seed=1).named_parameters())
save_checkpoint(Path("parent"), config=config, weights=weights, tokenizer_json=tokenizer.to_json(), state={"step": 0})
"""


def peak_gigabytes(command: list[str], folder: Path) -> float:
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(errors)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    table = Table("fine-tuning GPT-2, 124M, context 1024, batch 1", "peak memory, GB")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "text.txt").write_text("Glass is made of sand, and what is made of sand breaks.\n" * 2000)
        os.environ["GLASSGPT_CACHE"] = str(folder / "cache")
        subprocess.run([sys.executable, "-c", PARENT], cwd=folder, check=True)
        for number, (name, flags) in enumerate(track(WAYS.items(), "measuring", console=Console(stderr=True))):
            command = [
                sys.executable, "-m", "glassgpt", "train", "text.txt", "--from", "parent", "--out", f"run{number}",
                "--batch-size", "1", "--micro-batch-size", "1", "--max-steps", "3", "--eval-every", "3",
                "--sample-every", "3", "--compile", "off", *flags,
            ]  # fmt: skip
            peak = peak_gigabytes(command, folder)
            assert peak < LIMIT, (name, peak)
            table.add_row(name, f"{peak:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
