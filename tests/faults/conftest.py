"""Small checkpoints whose content says which step they are of, and a text to prepare."""

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
