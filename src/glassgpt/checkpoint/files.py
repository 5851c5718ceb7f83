"""The files of a checkpoint, and whether they are all there. Nothing here loads torch."""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassgpt.checkpoint.commit import verify_folder
from glassgpt.config.plain import parse_json, typed
from glassgpt.errors import CheckpointError

PARENT = "parent"
WEIGHTS, OPTIMIZER, CONFIG, TOKENIZER, TEMPLATE, STATE = (
    "model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json", "template.json", "state.json",
)  # fmt: skip
FINGERPRINT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class BestSoFar:
    step: int
    val_loss: float


@dataclass(frozen=True)
class WatchState:
    losses: tuple[float, ...]
    grad_norms: tuple[float, ...]
    skipped_in_a_row: int


# What a run that goes on reads from its state; more may stand there.
STATE_TYPES: dict[str, Any] = {
    "step": int, "tokens": int, "seconds": float, "metrics_bytes": int, "data_fingerprint": str, "data_content": str,
    "settings": dict, "best": BestSoFar | None, "watch": WatchState, "seconds_in_all": float,
}  # fmt: skip
LATER = {"best", "watch", "seconds_in_all"}  # not in the first versions


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


def read_state(folder: Path) -> dict[str, Any]:
    """A checkpoint's state.json. Raises CheckpointError where it says what no run can have written."""
    state = read_json(folder / STATE)
    try:
        for name, kind in STATE_TYPES.items():
            if name in state or name == "step":
                typed(kind, state.get(name), name)
        if not FINGERPRINT.fullmatch(state.get("data_fingerprint", "0" * 64)):  # the name of a folder in the cache
            raise ValueError(f"data_fingerprint is {state['data_fingerprint']!r:.40}, no sha256")
    except ValueError as error:
        raise CheckpointError(f"{folder / STATE} is damaged: {error}") from None
    return state


def require_resumable(folder: Path) -> None:
    """That its state says all that a run needs to go on: more than a model that was imported has. Raises CheckpointError."""
    if missing := STATE_TYPES.keys() - LATER - read_state(folder).keys():
        raise CheckpointError(f"{folder / STATE} has no entry {min(missing)!r}, without which no run can go on from it")
