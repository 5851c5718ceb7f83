"""Small checkpoints whose content says which step they are of, texts to prepare, and places that take no file."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glassgpt.checkpoint import Run, load_checkpoint, save_checkpoint
from glassgpt.config import GPTConfig

SHAPE = GPTConfig(vocab_size=257, context_length=7, n_layer=2, n_head=2, n_embd=12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((3, 4), float(step)), "b": torch.arange(5) + step}


def save(run: Run, step: int) -> None:
    save_checkpoint(
        run.checkpoint_folder(step),
        config=SHAPE,
        weights=tensors(step),
        optimizer_tensors={"a/exp_avg": tensors(step)["a"] + 0.5},
        tokenizer_json=f'{{"step": {step}}}',
        state={"step": step},
    )


def is_as_saved(run: Run, step: int) -> bool:
    checkpoint = load_checkpoint(run.checkpoint_folder(step))
    weights, memory = checkpoint.weights(), checkpoint.optimizer_tensors()
    expected = tensors(step)
    return (
        checkpoint.state == {"step": step}
        and weights.keys() == expected.keys()
        and all(weights[name].equal(tensor) for name, tensor in expected.items())
        and memory["a/exp_avg"].equal(expected["a"] + 0.5)
    )


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "text.txt"
    file.write_text("The kettle sings before it boils.\n" * 20)
    return str(file)


def words(megabytes: float) -> str:
    """Text with many different words, so that a vocabulary takes its time."""
    line = " ".join(f"{chr(97 + i % 26)}{i * 7919 % 10007:x}{chr(98 + i % 23)}" for i in range(20_000)) + "\n"
    return line * round(megabytes * 1e6 / len(line))


def mounted(folder: Path, *options: str) -> bool:
    """Whether a disk in memory is in the folder's place now."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    return sys.platform == "linux" and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that holds 1.2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mounted(disk, "size=1200k"):
        pytest.skip("no disk of its own may be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A folder that nobody may write to."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    try:
        (folder / "file").touch()
    except PermissionError:
        return folder
    (folder / "file").unlink()
    folder.rmdir()
    folder.symlink_to("/proc/sys" if sys.platform == "linux" else "/dev/null")  # holds root back too
    return folder
