"""Hugging Face folders: `config.json`, `model.safetensors` (or its shards), a tokenizer; read and written. What stands in
config.json and in the tensors' names differs by model type: huggingface_models.py."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from glassgpt.checkpoint import Checkpoint, load_tensors, read_json, save_tensors, whole_weights
from glassgpt.config import GPTConfig
from glassgpt.errors import CheckpointError, ConfigError, TokenizerError
from glassgpt.formats.folder import write_folder, write_json
from glassgpt.formats.huggingface_card import model_card
from glassgpt.formats.huggingface_chat import CHAT_TEMPLATE, TOKENIZER_SETTINGS, chat_template
from glassgpt.formats.huggingface_models import MODEL_TYPE_OF, MODEL_TYPES
from glassgpt.formats.layout import Layout, Place, give, parameter_shapes, require_layers, take
from glassgpt.tokenizer import END_OF_TEXT, Tokenizer, load_tokenizer, read_tokenizer

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
GENERATION = "generation_config.json"
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
COMPANIONS = "huggingface"  # under this name in a checkpoint's state
DTYPES = {
    "torch.float32": "float32",
    "torch.float16": "float16",
    "torch.bfloat16": "bfloat16",
    "torch.float64": "float64",
}


def read_huggingface(folder: Path) -> tuple[GPTConfig, dict[str, Tensor]]:
    """The shape and the weights, under our names and in the precision of the file, bit for bit.

    Raises CheckpointError where a file is missing or damaged, a setting or tensor is one that our models have no place
    for, or a tensor is missing or of another shape.
    """
    content = read_json(folder / CONFIG)
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise CheckpointError(f"{folder / CONFIG}: model_type is {kind!r}; here are known: {', '.join(MODEL_TYPES)}")
    model_type = MODEL_TYPES[kind]
    classifier = re.search(r"\w*Classification\w*", str(content.get("architectures")))
    if classifier:
        raise CheckpointError(
            f"{folder} tells labels apart ({classifier[0]:.60}), and only models that write text are imported; "
            "take the one that it was made from"
        )
    try:
        config = model_type.read_config(content)
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG} lacks {error}, without which the shape is not known") from None
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    tensors = read_shards(folder)
    require_layers(config, tensors, str(folder))
    try:
        layout = model_type.layout(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    if not any(name.startswith(model_type.prefix) for name in tensors):
        layout = {
            ours: Place(tuple(name.removeprefix(model_type.prefix) for name in place.names), place.transposed)
            for ours, place in layout.items()
        }
    if "lm_head.weight" not in layout and "lm_head.weight" in tensors:
        drop_tied_head(tensors, layout, folder)
    return config, take(tensors, layout, config, str(folder), model_type.is_ignored)


def drop_tied_head(tensors: dict[str, Tensor], layout: Layout, folder: Path) -> None:
    """Some files store the embedding a second time as the output layer that it is."""
    (embedding,) = (
        place.names[0] for ours, place in layout.items() if ours.endswith(("wte.weight", "embed_tokens.weight"))
    )
    head = tensors.pop("lm_head.weight")
    same = embedding in tensors and head.dtype == tensors[embedding].dtype and head.equal(tensors[embedding])
    if embedding in tensors and not same:
        raise CheckpointError(
            f"{folder}: tensor lm_head.weight of shape {tuple(head.shape)} differs from {embedding}, while its config ties "
            "the two; set tie_word_embeddings to false in config.json if the file is right"
        )


def read_shards(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one file or from several with an index."""
    if (folder / WEIGHTS).is_file():  # before the index, as in transformers
        return load_tensors(folder / WEIGHTS)
    if not (folder / INDEX).is_file():
        old = "; it has weights as a pickle only" if any(folder.glob("pytorch_model*.bin")) else ""
        raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}{old}; save it as safetensors first")
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{folder / INDEX} has no weight_map from tensors to files")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{folder / INDEX} names the file {name!r}, which lies outside the folder")
        shard = load_tensors(folder / name)
        twice = sorted(shard.keys() & tensors.keys())
        if twice:
            raise CheckpointError(f"{folder}: tensor {twice[0]} is in two of its files")
        tensors |= shard
    absent = sorted(places.keys() - tensors.keys())
    if absent:
        raise CheckpointError(f"{folder} lacks the tensor {absent[0]}, which {INDEX} says is in {places[absent[0]]}")
    return tensors


def read_companions(folder: Path) -> dict[str, Any]:
    """What else the folder says of how the model is used, to be written back as it was: special ids, how it generates, and
    the tokenizer's settings with their chat template."""
    config = read_json(folder / CONFIG)
    found: dict[str, Any] = {CONFIG: {name: config[name] for name in SPECIAL_IDS if name in config}}
    for name in (GENERATION, TOKENIZER_SETTINGS):
        if (folder / name).is_file():
            found[name] = read_json(folder / name)
    if (folder / CHAT_TEMPLATE).is_file():
        found[CHAT_TEMPLATE] = (folder / CHAT_TEMPLATE).read_text(encoding="utf-8", errors="replace")
    return found


def published_ends(state: Mapping[str, Any]) -> set[int]:
    """The ids that end a text, as the folder of a checkpoint's model says it, if it came from one."""
    companions = companions_in(state)
    return {id for name in (GENERATION, CONFIG) for id in eos_ids(companions.get(name, {}))}


def companions_in(state: Mapping[str, Any]) -> dict[str, Any]:
    """What `read_companions` gave, as a checkpoint's state holds it. Raises CheckpointError where it is something else."""
    companions = state.get(COMPANIONS, {})
    if not isinstance(companions, dict) or not all(
        isinstance(companions.get(name, kind()), kind)
        for name, kind in ((CONFIG, dict), (GENERATION, dict), (TOKENIZER_SETTINGS, dict), (CHAT_TEMPLATE, str))
    ):
        raise CheckpointError(f"{COMPANIONS} in the checkpoint's state.json is not what a Hugging Face folder says")
    return companions


def eos_ids(settings: Mapping[str, Any]) -> list[int]:
    """`eos_token_id` is one id, a list of them, null, or not there."""
    said = settings.get("eos_token_id")
    return [id for id in (said if isinstance(said, list) else [said]) if isinstance(id, int)]


def read_huggingface_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer.json, or GPT-2's older pair of vocab.json and merges.txt; None where it has neither."""
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder / "tokenizer.json")
    if not (folder / "vocab.json").is_file() or not (folder / "merges.txt").is_file():
        return None
    if read_json(folder / CONFIG).get("model_type") != "gpt2":
        raise TokenizerError(
            f"{folder} has vocab.json and merges.txt, which do not say how its kind of model splits text; open it in "
            "transformers once and save its tokenizer.json beside them, or remove the two"
        )
    vocabulary = read_json(folder / "vocab.json")
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        return read_tokenizer(
            json.dumps(
                {
                    "added_tokens": [{"id": vocabulary[END_OF_TEXT], "content": END_OF_TEXT, "special": True}]
                    if END_OF_TEXT in vocabulary
                    else [],
                    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
                    "decoder": {"type": "ByteLevel"},
                    "model": {
                        "type": "BPE",
                        "vocab": vocabulary,
                        "merges": [line for line in lines if line and not line.startswith("#version")],
                    },
                }
            )
        )
    except (OSError, UnicodeDecodeError, TokenizerError) as error:
        raise TokenizerError(
            f"{folder / 'vocab.json'} and merges.txt are no vocabulary of GPT-2's kind: {error}"
        ) from None


def huggingface_tensors(config: GPTConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under transformers' names. A GPT-2 without biases is one whose biases are zero."""
    model_type = MODEL_TYPES[MODEL_TYPE_OF[config.architecture]]
    whole = config
    if not config.is_modern:
        whole = replace(config, bias=True, qkv_bias=True)
        some = next(iter(weights.values()))
        zeros = {name: some.new_zeros(shape) for name, shape in parameter_shapes(whole).items() if name not in weights}
        weights = {**weights, **zeros}
    return give(weights, model_type.layout(whole))


def classifier_tensors(config: GPTConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a model that tells labels apart: its body, and `score`. It has no output matrix for tokens."""
    body = {name.removeprefix("body."): tensor for name, tensor in weights.items() if name.startswith("body.")}
    return huggingface_tensors(replace(config, tie_embeddings=True), body) | {"score.weight": weights["score.weight"]}


def classifier_settings(labels: Sequence[str], architecture: str, padding: int | None) -> dict[str, Any]:
    """transformers takes the last token that is no padding."""
    base = re.sub("(LMHeadModel|ForCausalLM)$", "", architecture)
    return {
        "architectures": [f"{base}ForSequenceClassification"],
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    } | ({} if padding is None else {"pad_token_id": padding})


def eos_with(generation: Mapping[str, Any], end: int) -> int | list[int]:
    """The ids that end a text, and `end` among them, which ends an answer."""
    ends = sorted({*eos_ids(generation), end})
    return end if len(ends) == 1 else ends


def write_huggingface(checkpoint: Checkpoint, out: Path, result: Mapping[str, Any] | None) -> None:
    """A folder that AutoModelForCausalLM, AutoTokenizer and pipeline open. `result`, the metrics of this checkpoint, goes
    into the model card.

    Raises ConfigError where the format cannot express the model, MachineError where the folder cannot be written.
    """
    config = checkpoint.config
    settings = MODEL_TYPES[MODEL_TYPE_OF[config.architecture]].write_config(config)
    weights = whole_weights(checkpoint)
    tensors = classifier_tensors(config, weights) if checkpoint.labels else huggingface_tensors(config, weights)
    tokenizer = checkpoint.tokenizer() if checkpoint.has_tokenizer else None
    ends = tokenizer.end_of_text if tokenizer else None
    # Said also where there is none: transformers' default for GPT-2 is 50256, which a small vocabulary does not have.
    special = {"bos_token_id": ends, "eos_token_id": ends}
    dtype = DTYPES[str(next(iter(tensors.values())).dtype)]
    generation = {
        "do_sample": True,
        "temperature": 0.8,
        "top_k": min(200, config.vocab_size),
        **special,
        "pad_token_id": ends,
    }
    generation = {name: value for name, value in generation.items() if value is not None}
    architecture = settings["architectures"][0]
    classes = classifier_settings(checkpoint.labels, architecture, ends) if checkpoint.labels else {}
    token = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT} if ends is not None else {}
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context_length}
    about |= token | {"clean_up_tokenization_spaces": False}
    kept = companions_in(checkpoint.state)  # of a model that came from such a folder
    writers: dict[str, Callable[[Path], object]] = {
        CONFIG: write_json(settings | kept.get(CONFIG, special) | {"dtype": dtype} | classes),
        WEIGHTS: lambda path: save_tensors(tensors, path),
        "README.md": lambda path: path.write_text(
            model_card(config, out.name, tokenizer, result, checkpoint.labels), "utf-8", "replace"
        ),
    }
    if not checkpoint.labels:
        generation = kept.get(GENERATION, generation)
        if checkpoint.template is not None and tokenizer is not None:
            generation |= {"eos_token_id": eos_with(generation, checkpoint.template.end_id(tokenizer))}
        writers[GENERATION] = write_json(generation)
    if tokenizer is not None:
        writers["tokenizer.json"] = lambda path: path.write_text(tokenizer.to_json(), encoding="utf-8")
        about = dict(kept.get(TOKENIZER_SETTINGS, about))
        if checkpoint.labels:  # a batch of texts is filled up, and long ones are cut
            about |= token | {"model_max_length": config.context_length}
        chat = chat_template(checkpoint.template, tokenizer, kept)
        if chat is not None:
            about.pop("chat_template", None)
            writers[CHAT_TEMPLATE] = lambda path: path.write_text(chat, encoding="utf-8", newline="\n")
        writers[TOKENIZER_SETTINGS] = write_json(about)
    write_folder(out, writers, sum(tensor.nbytes for tensor in tensors.values()))
