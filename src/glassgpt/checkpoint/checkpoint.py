"""One checkpoint: weights, optimizer, shape, tokenizer and training state in a folder that needs nothing else."""

import json
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassgpt.checkpoint.commit import commit_folder, require_free, unwritten, verify_folder
from glassgpt.config import GPTConfig
from glassgpt.config.plain import parse_json, typed
from glassgpt.config.schema import FinetuneConfig, check_value
from glassgpt.errors import CheckpointError, ConfigError, MachineError, TokenizerError
from glassgpt.finetune import Template, read_template
from glassgpt.model import LanguageModel, build_model
from glassgpt.model.classifier import Classifier
from glassgpt.model.lora import LoRA, attach_lora, lora_of, merge_lora
from glassgpt.model.size import count_parameters
from glassgpt.tokenizer import Tokenizer, load_tokenizer, ready_tokenizer, require_fitting

FORMAT = 1
PARENT = "parent"
WEIGHTS, OPTIMIZER, CONFIG, TOKENIZER, TEMPLATE, STATE = (
    "model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json", "template.json", "state.json",
)  # fmt: skip
MOST_MISSING = 1 << 20  # parameters that take no memory worth a word; what is missing among them is said by its name
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


# What a run that goes on reads from its state; more may stand there, and the last two were not in the first versions.
STATE_TYPES: dict[str, Any] = {
    "step": int, "tokens": int, "seconds": float, "metrics_bytes": int, "data_fingerprint": str, "data_content": str,
    "settings": dict, "best": BestSoFar | None, "watch": WatchState,
}  # fmt: skip
LATER = {"best", "watch"}


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

    Raises MachineError where it cannot be written; nothing of it is left then.
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
        raise MachineError(
            f"checkpoint {unwritten(folder, error, needed)}; earlier checkpoints are whole; make room, or check the disk"
        ) from error


def verify_checkpoint(folder: Path, without: Container[str] = (), needed: Iterable[str] = ()) -> str | None:
    """Why a checkpoint is not whole, or None; as `verify_folder`, with the files that every checkpoint needs."""
    return verify_folder(folder, without, {WEIGHTS, CONFIG, STATE, *needed})


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
    state = read_json(folder / STATE)
    try:
        for name, kind in STATE_TYPES.items():
            if name in state or name == "step":
                typed(kind, state.get(name), name)
        if not FINGERPRINT.fullmatch(state.get("data_fingerprint", "0" * 64)):  # the name of a folder in the cache
            raise ValueError(f"data_fingerprint is {state['data_fingerprint']!r:.40}, no sha256")
    except ValueError as error:
        raise CheckpointError(f"{folder / STATE} is damaged: {error}") from None
    return Checkpoint(folder=folder, config=shape, state=state, lora=adapters, labels=labels)


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


def require_resumable(checkpoint: Checkpoint) -> None:
    """That its state says all that a run needs to go on: more than a model that was imported has."""
    missing = STATE_TYPES.keys() - LATER - checkpoint.state.keys()
    if missing:
        raise CheckpointError(
            f"{checkpoint.folder / STATE} has no entry {min(missing)!r}, without which no run can go on from it"
        )


def load_model(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> LanguageModel:
    """The model with its weights, in evaluation mode: a Classifier where it tells labels apart. Adapters are attached to the
    model that they were trained for."""
    weights = checkpoint.weights()
    if checkpoint.lora is None:
        require_so_many(checkpoint.config, weights, checkpoint.folder)
        model = build_model(checkpoint.config)
    else:
        model = load_parent(checkpoint)
        attach_lora(model, checkpoint.lora)
    if checkpoint.labels:
        model = Classifier(model, checkpoint.labels)
    load_weights(model, weights, str(checkpoint.folder / WEIGHTS))
    return model.to(device).eval()


def load_parent(checkpoint: Checkpoint) -> LanguageModel:
    """The model that a checkpoint's adapters belong to."""
    parent = checkpoint.parent
    if not parent.is_dir():
        raise CheckpointError(
            f"{checkpoint.folder} holds adapters only, and the model that they belong to is not in {parent}; "
            "use it inside its run"
        )
    reason = verify_checkpoint(parent)
    if reason:
        raise CheckpointError(f"{parent}, which the adapters belong to, is damaged: {reason}")
    weights = load_checkpoint(parent).weights()
    require_so_many(checkpoint.config, weights, checkpoint.folder)
    model = build_model(checkpoint.config)
    load_weights(model, weights, str(parent / WEIGHTS))
    return model


def require_so_many(config: GPTConfig, weights: Mapping[str, Tensor], folder: Path) -> None:
    """That the model which a file describes is not far larger than the weights beside it, before memory is taken for it."""
    described, there = count_parameters(config).total, sum(tensor.numel() for tensor in weights.values())
    if described > MOST_MISSING + 4 * there:
        raise CheckpointError(
            f"{folder / CONFIG} describes a model of {described:,} parameters, its weights have {there:,}; it is damaged"
        )


def whole_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of the model: a checkpoint's own, bit for bit, or with its adapters folded in."""
    if checkpoint.lora is None:
        weights = checkpoint.weights()
        require_so_many(checkpoint.config, weights, checkpoint.folder)
        shape = build_model(checkpoint.config, device="meta")
        if checkpoint.labels:
            shape = Classifier(shape, checkpoint.labels)
        require_fitting_weights(shape, weights, str(checkpoint.folder / WEIGHTS))
        return weights
    model = load_model(checkpoint)
    merge_lora(model)
    return dict(model.named_parameters())


def merge_checkpoint(checkpoint: Checkpoint, out: Path) -> None:
    """Write an ordinary checkpoint of a model with adapters, these folded in. Raises ConfigError where there are none."""
    if checkpoint.lora is None:
        raise ConfigError(f"{checkpoint.folder} has no adapters to fold in; it is whole as it is")
    require_free(out)
    save_checkpoint(
        out,
        config=checkpoint.config,
        weights=whole_weights(checkpoint),
        tokenizer_json=checkpoint.tokenizer().to_json() if checkpoint.has_tokenizer else None,
        template=checkpoint.template,
        labels=checkpoint.labels,
        state=checkpoint.state | {"merged_from": str(checkpoint.folder)},
    )


def load_weights(model: LanguageModel, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy `weights` into what learns of `model`, which is everything, or its adapters. Raises as below."""
    require_fitting_weights(model, weights, source)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


def require_fitting_weights(model: LanguageModel, weights: Mapping[str, Tensor], source: str) -> None:
    """Every tensor that learns of `model` has to be there, with its shape and as numbers with a fraction, and no other."""
    expected = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in expected.items():
        if name not in weights:
            raise CheckpointError(f"{source} lacks the tensor {name}, which its config asks for")
        if weights[name].shape != parameter.shape:
            raise CheckpointError(
                f"{source}: tensor {name} has shape {tuple(weights[name].shape)}, its config asks for {tuple(parameter.shape)}"
            )
        if not weights[name].is_floating_point() or weights[name].element_size() == 1:
            kind = str(weights[name].dtype).removeprefix("torch.")
            raise CheckpointError(f"{source}: tensor {name} is of type {kind}; weights have to be float16 or wider")
    surplus = weights.keys() - expected.keys()
    if surplus:
        raise CheckpointError(f"{source} has a tensor {min(surplus)} that its config has no place for")


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a .safetensors file. Raises OSError where there is no room or no permission."""
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    try:
        save_file(plain, path, metadata={"format": "pt"})
    except SafetensorError as error:  # the library's own class for whatever the system refused it
        raise OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():  # nor a pipe, which is never read to its end
        raise CheckpointError(f"{path} is missing; the checkpoint is not whole, use another one")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); use another checkpoint") from None


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
