"""The files of a checkpoint, and whether they are all there. Nothing here loads torch."""

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from glassgpt.checkpoint.commit import verify_folder
from glassgpt.config.plain import parse_json
from glassgpt.errors import CheckpointError

PARENT = "parent"
WEIGHTS, OPTIMIZER, CONFIG, TOKENIZER, TEMPLATE, STATE = (
    "model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json", "template.json", "state.json",
)  # fmt: skip


def verify_checkpoint(folder: Path, without: Container[str] = (), needed: Iterable[str] = ()) -> str | None:
    """Why a checkpoint is not whole, or None; as `verify_folder`, with the files that every checkpoint needs."""
    return verify_folder(folder, without, {WEIGHTS, CONFIG, STATE, *needed})


def read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; {path.parent} is not a checkpoint, or not a whole one")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} has to hold one JSON object")
    return content
