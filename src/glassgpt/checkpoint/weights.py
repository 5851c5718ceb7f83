"""From the tensors of a checkpoint to a model with them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from glassgpt.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from glassgpt.checkpoint.commit import require_free
from glassgpt.checkpoint.files import CONFIG, WEIGHTS, verify_checkpoint
from glassgpt.config import GPTConfig
from glassgpt.errors import CheckpointError, ConfigError
from glassgpt.model import LanguageModel, build_model
from glassgpt.model.classifier import Classifier
from glassgpt.model.lora import attach_lora, merge_lora
from glassgpt.model.size import count_parameters

MOST_MISSING = 1 << 20  # parameters that take no memory worth a word; what is missing among them is said by its name


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
