"""One checkpoint: weights, optimizer, shape, tokenizer and training state in a folder that needs nothing else."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassgpt.checkpoint.commit import commit_folder
from glassgpt.config import GPTConfig
from glassgpt.errors import CheckpointError, ConfigError, MachineError
from glassgpt.model import LanguageModel, build_model
from glassgpt.tokenizer import Tokenizer, load_tokenizer

FORMAT = 1
WEIGHTS, OPTIMIZER, CONFIG, TOKENIZER, STATE = (
    "model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json", "state.json",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    folder: Path
    config: GPTConfig
    state: dict[str, Any]

    def weights(self) -> dict[str, Tensor]:
        return load_tensors(self.folder / WEIGHTS)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        return load_tensors(self.folder / OPTIMIZER)

    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder / TOKENIZER)


def save_checkpoint(
    folder: Path,
    *,
    config: GPTConfig,
    weights: Mapping[str, Tensor],
    optimizer_tensors: Mapping[str, Tensor],
    tokenizer_json: str,
    state: Mapping[str, Any],
) -> None:
    """Commit a checkpoint at `folder`. `state` is JSON-ready and says at least `step`.

    Raises MachineError where it cannot be written; nothing of it is left then.
    """
    writers: dict[str, Callable[[Path], object]] = {
        WEIGHTS: lambda path: save_tensors(weights, path),
        OPTIMIZER: lambda path: save_tensors(optimizer_tensors, path),
        CONFIG: lambda path: path.write_text(json.dumps({"format": FORMAT} | asdict(config), indent=1), "utf-8"),
        TOKENIZER: lambda path: path.write_text(tokenizer_json, "utf-8"),
        STATE: lambda path: path.write_text(json.dumps(state, indent=1), "utf-8"),
    }
    try:
        commit_folder(folder, writers)
    except OSError as error:
        raise MachineError(
            f"checkpoint {folder} could not be written ({error}); make room, or check the disk; earlier checkpoints are whole"
        ) from error


def load_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint; tensors are read when they are asked for."""
    config = read_json(folder / CONFIG)
    if config.pop("format", None) != FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG} is not of format {FORMAT}; it was written by another version of glassgpt"
        )
    unknown = config.keys() - {f.name for f in fields(GPTConfig)}
    if unknown:
        raise CheckpointError(
            f"{folder / CONFIG} has an unknown entry {min(unknown)!r}; it was damaged or is from elsewhere"
        )
    try:
        return Checkpoint(folder=folder, config=GPTConfig(**config), state=read_json(folder / STATE))
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no model: {error}") from None


def load_model(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> LanguageModel:
    """The model with its weights, in evaluation mode."""
    model = build_model(checkpoint.config)
    load_weights(model, checkpoint.weights(), str(checkpoint.folder / WEIGHTS))
    return model.to(device).eval()


def load_weights(model: LanguageModel, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy `weights` into `model`; every tensor has to be there, with its shape, and no other."""
    expected = dict(model.named_parameters())
    for name, parameter in expected.items():
        if name not in weights:
            raise CheckpointError(f"{source} lacks the tensor {name}, which its config asks for")
        if weights[name].shape != parameter.shape:
            raise CheckpointError(
                f"{source}: tensor {name} has shape {tuple(weights[name].shape)}, its config asks for {tuple(parameter.shape)}"
            )
    surplus = weights.keys() - expected.keys()
    if surplus:
        raise CheckpointError(f"{source} has a tensor {min(surplus)} that its config has no place for")
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(weights[name])


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a .safetensors file. Raises OSError where there is no room or no permission."""
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    try:
        save_file(plain, path, metadata={"format": "pt"})
    except SafetensorError as error:  # the library's own class for whatever the system refused it
        raise OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; the checkpoint is not whole, use another one") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); use another checkpoint") from None


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; {path.parent} is not a checkpoint, or not a whole one") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} has to hold one JSON object")
    return content
