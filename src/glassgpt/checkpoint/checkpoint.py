"""One checkpoint: weights, optimizer, shape, tokenizer and training state in a folder that needs nothing else."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from glassgpt.checkpoint.commit import commit_folder
from glassgpt.checkpoint.files import (
    CONFIG,
    OPTIMIZER,
    PARENT,
    STATE,
    TEMPLATE,
    TOKENIZER,
    WEIGHTS,
    read_json,
    read_state,
)
from glassgpt.checkpoint.tensors import load_tensors, save_tensors
from glassgpt.config import GPTConfig
from glassgpt.config.plain import typed
from glassgpt.config.schema import FinetuneConfig, check_value
from glassgpt.disk import DiskError
from glassgpt.errors import CheckpointError, ConfigError, TokenizerError
from glassgpt.finetune import Template, read_template
from glassgpt.model.lora import LoRA, lora_of
from glassgpt.tokenizer import Tokenizer, load_tokenizer, ready_tokenizer, require_fitting

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    folder: Path
    config: GPTConfig
    state: dict[str, Any]
    lora: LoRA | None = None  # then its weights are adapters only, for the model in the run's folder `parent`
    labels: tuple[str, ...] = ()  # then it tells these apart, and writes nothing

    @property
    def parent(self) -> Path:
        return Path(os.path.normpath(self.folder / ".." / ".." / PARENT))

    def weights(self) -> dict[str, Tensor]:
        return load_tensors(self.folder / WEIGHTS)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        return load_tensors(self.folder / OPTIMIZER)

    @property
    def template(self) -> Template | None:
        """How conversations are written for it; None for a model that was made for none."""
        file = self.folder / TEMPLATE
        return read_template(file.read_bytes(), str(file)) if file.is_file() else None

    @property
    def verb(self) -> str:
        """The command that it is made for."""
        return "classify" if self.labels else "chat" if self.template else "sample"

    @property
    def has_tokenizer(self) -> bool:
        return (self.folder / TOKENIZER).is_file()

    def tokenizer(self, name: str | None = None) -> Tokenizer:
        """Its own, or the one that a person names (a kind, or the path of a tokenizer.json) where it came without one."""
        if self.has_tokenizer:
            if name is not None:
                raise TokenizerError(f"{self.folder} has its own tokenizer; leave --tokenizer out")
            return load_tokenizer(self.folder / TOKENIZER)
        if name is None:
            raise CheckpointError(f"{self.folder} came without a tokenizer; say which one with --tokenizer")
        tokenizer = ready_tokenizer(name)
        if isinstance(tokenizer, str):
            raise TokenizerError(f"a {name} tokenizer is made from a text; pass the path of its tokenizer.json")
        require_fitting(tokenizer, name, self.config.vocab_size, f"the model in {self.folder}")
        return tokenizer


def save_checkpoint(
    folder: Path,
    *,
    config: GPTConfig,
    weights: Mapping[str, Tensor],
    state: Mapping[str, Any],
    optimizer_tensors: Mapping[str, Tensor] | None = None,
    tokenizer_json: str | None = None,
    template: Template | None = None,
    lora: LoRA | None = None,
    labels: tuple[str, ...] = (),
) -> None:
    """Commit a checkpoint at `folder`. `state` is JSON-ready and says at least `step`. A model that was imported has no
    optimizer's memory, and may have no tokenizer.

    Raises DiskError where it cannot be written; nothing of it is left then.
    """
    described = {"format": FORMAT} | asdict(config) | ({"lora": lora._asdict()} if lora else {})
    described |= {"labels": labels} if labels else {}
    writers: dict[str, Callable[[Path], object]] = {
        WEIGHTS: lambda path: save_tensors(weights, path),
        CONFIG: lambda path: path.write_text(json.dumps(described, indent=1), "utf-8"),
        STATE: lambda path: path.write_text(json.dumps(state, indent=1), "utf-8"),
    }
    if optimizer_tensors is not None:
        writers[OPTIMIZER] = lambda path: save_tensors(optimizer_tensors, path)
    if tokenizer_json is not None:
        writers[TOKENIZER] = lambda path: path.write_text(tokenizer_json, "utf-8")
    if template is not None:
        writers[TEMPLATE] = lambda path: path.write_text(template.to_json(), "utf-8")
    try:
        commit_folder(folder, writers)
    except OSError as error:
        needed = sum(t.nbytes for tensors in (weights, optimizer_tensors or {}) for t in tensors.values())
        raise DiskError(folder, error, needed, kind="checkpoint ") from error


def load_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint; tensors are read when they are asked for."""
    config = read_json(folder / CONFIG)
    if "model_type" in config:
        raise CheckpointError(
            f"{folder} is a Hugging Face folder; bring it in first: glassgpt import {folder} --out NAME"
        )
    if config.pop("format", None) != FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG} is not of format {FORMAT}; it was written by another version of glassgpt"
        )
    lora, labels = config.pop("lora", None), config.pop("labels", [])
    unknown = config.keys() - {f.name for f in fields(GPTConfig)}
    if unknown:
        raise CheckpointError(
            f"{folder / CONFIG} has an unknown entry {min(unknown)!r}; it was damaged or is from elsewhere"
        )
    try:
        shape = GPTConfig(**{name: check_value(name, value, "setting") for name, value in config.items()})
        adapters = read_lora(lora) if lora is not None else None
        labels = typed(tuple[str, ...], labels, "labels")
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no model: {error}") from None
    return Checkpoint(folder=folder, config=shape, state=read_state(folder), lora=adapters, labels=labels)


def read_lora(entries: Any) -> LoRA:
    """Adapters, within the limits of the settings that they came from. Raises ValueError or ConfigError."""
    adapters: dict[str, Any] = typed(dict[str, int | float | str], entries, "lora")
    if adapters.keys() != set(LoRA._fields):
        raise ValueError(f"lora has the entries {', '.join(adapters) or 'none'} instead of {', '.join(LoRA._fields)}")
    names = {"rank": "lora", "alpha": "lora_alpha", "on": "lora_on"}
    settings = {names[entry]: check_value(names[entry], value, "lora") for entry, value in adapters.items()}
    lora = lora_of(FinetuneConfig(from_=PARENT, **settings))
    if lora is None:
        raise ValueError("lora has rank 0")
    return lora
