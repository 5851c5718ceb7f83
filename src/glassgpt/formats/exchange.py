"""Models in and out, whatever their format: from a folder, a file of torch.save or the name of a published model to a
checkpoint of ours, and from a checkpoint to another program's folder."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from glassgpt.checkpoint import (
    Checkpoint,
    Run,
    find_checkpoint,
    load_checkpoint,
    require_free,
    run_of,
    save_checkpoint,
    whole_weights,
)
from glassgpt.config import GPTConfig
from glassgpt.config.plain import parse_json
from glassgpt.errors import CheckpointError, ConfigError, TokenizerError
from glassgpt.finetune import CHATML, Template
from glassgpt.formats.book import is_book, read_book
from glassgpt.formats.hub import download
from glassgpt.formats.huggingface import (
    COMPANIONS,
    CONFIG,
    companions_in,
    read_companions,
    read_huggingface,
    read_huggingface_tokenizer,
    write_huggingface,
)
from glassgpt.formats.huggingface_chat import speaks_chatml
from glassgpt.formats.mingpt import is_mingpt, read_mingpt
from glassgpt.formats.nanogpt import is_nanogpt, read_nanogpt
from glassgpt.formats.peft import write_peft
from glassgpt.formats.shape import tensors_in
from glassgpt.formats.unpickle import read_pickle
from glassgpt.signals import unwinding
from glassgpt.tokenizer import Tokenizer, build_tokenizer, load_tokenizer
from glassgpt.tokenizer.char import CharTokenizer

OURS = "glassgpt"
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
# The formats that a checkpoint can be written in: (checkpoint, folder, the run's result.json).
TARGETS: dict[str, Callable[[Checkpoint, Path, Mapping[str, Any] | None], None]] = {
    "huggingface": write_huggingface,
    "peft": write_peft,
}


class Foreign(NamedTuple):
    config: GPTConfig
    weights: dict[str, Tensor]  # under our names, in the precision of the file
    tokenizer: Tokenizer | None
    format: str
    companions: dict[str, Any]  # what a Hugging Face folder says besides, to be written back
    template: Template | None = None


def import_model(source: str, out: Path, *, n_head: int | None = None) -> Checkpoint:
    """Turn a model from elsewhere into a checkpoint of ours at `out`, bit for bit; `source`, `n_head`: as in `read_model`."""
    require_free(out)
    foreign = read_model(source, n_head)
    if foreign.format == OURS:
        raise CheckpointError(f"{source} is a checkpoint of glassgpt already; use it as it is")
    with unwinding():
        save_checkpoint(
            out,
            config=foreign.config,
            weights=foreign.weights,
            tokenizer_json=foreign.tokenizer.to_json() if foreign.tokenizer else None,
            template=foreign.template,
            state={"step": 0, "imported_from": source, "format": foreign.format, COMPANIONS: foreign.companions},
        )
    return load_checkpoint(out)


def export_model(
    run: Path | None, out: Path, *, to: str, report: Callable[[str], object] = warnings.warn
) -> Checkpoint:
    """Write the best checkpoint of a run, or one checkpoint, as a folder of the format `to` (TARGETS). `report` is handed a
    line where the best one is damaged and another is taken."""
    if to not in TARGETS:
        raise ConfigError(f"there is no format {to!r}; there are: {', '.join(TARGETS)}")
    require_free(out)
    folder = find_checkpoint(run, report)
    checkpoint, its_run = load_checkpoint(folder), run_of(folder)
    TARGETS[to](checkpoint, out, figures_of(checkpoint, its_run) if its_run else None)
    return checkpoint


def figures_of(checkpoint: Checkpoint, run: Run) -> dict[str, Any] | None:
    """What the run's metrics say of this very checkpoint, for a model card; None where it was not validated."""
    step = checkpoint.state["step"]
    needed = {"val_loss", "accuracy" if checkpoint.labels else "bits_per_byte"}
    validated = [line for line in run.metrics() if needed <= line.keys() and line["step"] == step]
    if not validated or not {"tokens", "seconds"} <= checkpoint.state.keys():
        return None
    return {**validated[-1], "tokens": checkpoint.state["tokens"], "seconds": checkpoint.state["seconds"]}


def read_model(source: str, n_head: int | None = None) -> Foreign:
    """A model of another program: a folder, a file of torch.save, or the name of a published one; or of ours, a run or a
    checkpoint. `n_head` is for files that do not say it (the book's and minGPT's). Raises CheckpointError where it is no
    such model."""
    foreign = _read(source, n_head)
    broken = next((name for name, tensor in foreign.weights.items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise CheckpointError(
            f"{source}: tensor {broken} holds values that are no finite numbers; get a whole copy of it"
        )
    if foreign.tokenizer is not None and foreign.tokenizer.vocab_size > foreign.config.vocab_size:
        raise CheckpointError(
            f"{source}: its tokenizer has {foreign.tokenizer.vocab_size} tokens, its model only {foreign.config.vocab_size}"
        )
    return foreign


def _read(source: str, n_head: int | None) -> Foreign:
    path = Path(source)
    if (path / "state.json").is_file() or (path / "config.toml").is_file():
        checkpoint = load_checkpoint(find_checkpoint(path))
        tokenizer = checkpoint.tokenizer() if checkpoint.has_tokenizer else None
        if checkpoint.labels:
            raise CheckpointError(
                f"{source} tells labels apart, and a run goes on from models that write text only; name the one that it was "
                "made from, with all the texts"
            )
        companions = companions_in(checkpoint.state)
        return Foreign(checkpoint.config, whole_weights(checkpoint), tokenizer, OURS, companions, checkpoint.template)
    if path.is_dir() and (path / CONFIG).is_file():
        return read_folder(path, n_head)
    if path.is_dir() and (path / "ckpt.pt").is_file():
        return read_file(path / "ckpt.pt", n_head)
    if Run(path).steps():
        find_checkpoint(path)  # which names what is missing of the run
    if path.is_dir():
        raise CheckpointError(f"{path} holds no model: neither a config.json nor nanoGPT's ckpt.pt is in it")
    if path.suffix in PICKLES:
        return read_file(path, n_head)
    if path.is_file():
        raise CheckpointError(
            f"{path} is no model file that is known; pass a folder, or a file that ends in .pt or .pth"
        )
    names_a_place = path.is_absolute() or (path.parent != Path() and path.parent.is_dir())
    if names_a_place:  # as opposed to a model of the hub
        there = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = f"; in {path.parent} there are: {', '.join(there[:8])}" if there else ""
        raise CheckpointError(f"{source} is not there{hint}; pass a model's folder, its file, or a published name")
    return read_folder(download(source), n_head)


def read_folder(folder: Path, n_head: int | None) -> Foreign:
    config, weights = read_huggingface(folder)
    if n_head not in (None, config.n_head):
        raise ConfigError(f"{folder} says n_head {config.n_head}; leave --n-head out")
    tokenizer, companions = read_huggingface_tokenizer(folder), read_companions(folder)
    template = CHATML if tokenizer is not None and speaks_chatml(tokenizer, companions) else None
    return Foreign(config, weights, tokenizer, "huggingface", companions, template)


def read_file(path: Path, n_head: int | None) -> Foreign:
    content = read_pickle(path)
    state_dict = content.get("model_state_dict", content)  # as the book's training chapters save it
    tensors = tensors_in(state_dict, str(path), "model_state_dict")
    if is_nanogpt(content):
        config, weights = read_nanogpt(content, str(path))
        kind = "nanogpt"
    elif is_book(tensors):
        config, weights = read_book(tensors, str(path), n_head)
        kind = "book"
    elif is_mingpt(tensors):
        config, weights = read_mingpt(tensors, str(path), n_head)
        kind = "mingpt"
    elif "transformer.wte.weight" in tensors:
        raise CheckpointError(
            f"{path} has the weights of a nanoGPT model but not its shape; pass the ckpt.pt that train.py wrote"
        )
    else:
        some = ", ".join(sorted(content)[:4])
        raise CheckpointError(f"{path} is of no known school: neither nanoGPT's, the book's nor minGPT's ({some}, ...)")
    if n_head not in (None, config.n_head):
        raise ConfigError(f"{path} says n_head {config.n_head}; leave --n-head out")
    return Foreign(config, weights, tokenizer_beside(path, config.vocab_size), kind, {})


def tokenizer_beside(path: Path, vocab_size: int) -> Tokenizer | None:
    """The vocabulary of a file that has none in it: a tokenizer.json, a table of characters in json or the text that was
    trained on, in the same folder; the published one for its size. A pickled one (nanoGPT's meta.pkl) is not read."""
    if (file := path.with_name("tokenizer.json")).is_file():
        return load_tokenizer(file)
    for name in ("meta.json", "vocab.json"):
        if (file := path.with_name(name)).is_file():
            return chars_of_table(file, vocab_size)
    if (file := path.with_name("input.txt")).is_file():
        characters = sorted(set(file.read_text(encoding="utf-8", errors="replace")))
        if len(characters) == vocab_size and "\ufffd" not in characters:
            return chars(characters)
    if vocab_size in (50257, 50304):  # GPT-2's, as it is and padded to a multiple of 64
        try:
            return build_tokenizer("gpt2", lambda: iter(()))
        except TokenizerError:  # neither here nor to be downloaded
            return None
    return None


def chars_of_table(file: Path, vocab_size: int) -> Tokenizer:
    """A char vocabulary from json: a list of characters, or a dict from each to its id, on its own or as `stoi`."""
    try:
        table: Any = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{file} cannot be read ({error})") from None
    if isinstance(table, dict) and isinstance(table.get("stoi"), dict):
        table = table["stoi"]
    if isinstance(table, dict) and {*map(type, table.values())} <= {int}:
        ordered = sorted(table, key=table.__getitem__)
        table = ordered if [table[c] for c in ordered] == list(range(len(table))) else None
    whole = isinstance(table, list) and all(isinstance(c, str) and len(c) == 1 for c in table)
    if not whole or len(set(table)) < len(table):
        raise TokenizerError(
            f"{file} is no table of characters; it has to be a list of them, or a dict from each to its id"
        )
    if len(table) != vocab_size:
        raise TokenizerError(f"{file} has {len(table)} characters, the model {vocab_size} tokens")
    return chars(table)


def chars(characters: list[str]) -> Tokenizer:
    return CharTokenizer({character: id for id, character in enumerate(characters)}, {})
