"""The model that a fine-tuning goes on from: what it settles about the run, and what it leaves open."""

from dataclasses import fields
from typing import Any, NamedTuple

from torch import Tensor

from glassgpt.config import GPTConfig, RunConfig
from glassgpt.config.schema import shown_name
from glassgpt.data import DataFolder
from glassgpt.errors import ConfigError, TokenizerError
from glassgpt.finetune import Template
from glassgpt.formats import read_model
from glassgpt.tokenizer import Tokenizer, ready_tokenizer, require_fitting, tokenizer_hash

FREE = ("dropout", "context_length")  # of a model's settings, those that a fine-tuning may choose


class Parent(NamedTuple):
    source: str
    config: GPTConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer | None
    template: Template | None
    carried: dict[str, Any]  # of a Hugging Face folder, what is written back into one


def open_parent(source: str, config: RunConfig) -> Parent:
    """From a run, a checkpoint or whatever `formats` reads. Raises CheckpointError where it is no model."""
    found = read_model(source, config.model.n_head if "n_head" in config.asked else None)
    return Parent(source, found.config, found.weights, found.tokenizer, found.template, found.companions)


def fit_to_parent(config: RunConfig, parent: Parent) -> tuple[RunConfig, Parent]:
    """The run with the parent's shape, and the parent with the run's context. Raises ConfigError where something was asked
    for that the weights do not allow."""
    settled = {f.name: getattr(parent.config, f.name) for f in fields(GPTConfig) if f.name not in FREE}
    for name, value in settled.items():
        asked = getattr(config.model, name)
        if name in config.asked and asked != value:
            raise ConfigError(
                f"{shown_name(name)} {asked} does not fit {parent.source}, which has {value}; leave it out"
            )
    longest = parent.config.context_length
    context_length = config.model.context_length if "context_length" in config.asked else longest
    if context_length > longest:
        raise ConfigError(
            f"context_length {context_length} is longer than {parent.source}'s {longest}, and its weights know no position "
            f"beyond; take at most {longest}, or train from scratch without from"
        )
    weights = dict(parent.weights)
    if "wpe.weight" in weights:
        weights["wpe.weight"] = weights["wpe.weight"][:context_length]
    config = config.resolved(**settled, context_length=context_length)
    return config, parent._replace(config=config.model, weights=weights)


def tokenizer_for(config: RunConfig, parent: Parent) -> Tokenizer:
    """The parent's; or where it came without one, the one that was asked for. Raises TokenizerError where another than the
    parent's was asked for: the same ids would mean other words."""
    asked = config.data.tokenizer if "tokenizer" in config.asked else None
    named = ready_tokenizer(asked) if asked is not None else None
    if parent.tokenizer is not None:
        if named is None or (not isinstance(named, str) and tokenizer_hash(named) == tokenizer_hash(parent.tokenizer)):
            return parent.tokenizer
        raise TokenizerError(
            f"tokenizer {asked} is not the {parent.tokenizer.kind} tokenizer that {parent.source} was trained with; "
            "leave tokenizer out"
        )
    if asked is None or named is None or isinstance(named, str):
        made = f", and a {asked} tokenizer made of this text would give its ids other meanings" if asked else ""
        raise TokenizerError(
            f"{parent.source} came without a tokenizer{made}; say which one with tokenizer: gpt2, byte, or the path of its "
            "tokenizer.json"
        )
    require_fitting(named, asked, parent.config.vocab_size, parent.source)
    return named


def require_same_tokenizer(data: DataFolder, tokenizer: Tokenizer, source: str) -> None:
    """Of text that was prepared before."""
    if tokenizer_hash(data.tokenizer()) != tokenizer_hash(tokenizer):
        raise TokenizerError(
            f"{data.path} was prepared with another tokenizer than {source}'s {tokenizer.kind}; prepare the text again with "
            "its tokenizer.json, or name the text itself"
        )
