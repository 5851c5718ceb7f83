"""The parts of a tokenizer.json (the file format of the `tokenizers` library) that every kind reads and writes alike.

Written by hand rather than by the library, so that the same tokenizer is the same bytes under every version of it.
"""

import json
from collections.abc import Mapping
from typing import Any

from glassgpt.config.plain import parse_json
from glassgpt.errors import TokenizerError

Document = Mapping[str, Any]


def write_document(
    model: Document,
    vocabulary: Mapping[str, int],
    specials: Mapping[str, int],
    pre_tokenizer: Document,
    decoder: Document,
) -> str:
    """The text of a tokenizer.json. `model` is all but the vocabulary, which includes the special tokens."""
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, id in by_id(specials).items()
        ],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": {**model, "vocab": by_id(vocabulary)},
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def parse_document(text: str | bytes) -> Document:
    """Raises TokenizerError unless the text is JSON of a tokenizer.json's outline."""
    try:
        document = parse_json(text)
    except ValueError as error:
        raise TokenizerError(f"not JSON ({error})") from None
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise TokenizerError('not a tokenizer.json: it has no "model"')
    return document


def model_type(document: Document) -> object:
    """The model's name. Early files leave it out, as GPT-2's own on the hub does; only BPE has merges."""
    model = document["model"]
    return model.get("type", "BPE" if "merges" in model else None)


def read_specials(document: Document) -> dict[str, int]:
    """The special tokens and their ids."""
    specials = {}
    added = document.get("added_tokens") or []
    require(isinstance(added, list) and all(isinstance(token, dict) for token in added), '"added_tokens" is damaged')
    for token in added:
        content, id = token.get("content"), token.get("id")
        require(isinstance(content, str) and content != "" and type(id) is int, '"added_tokens" is damaged')
        if not token.get("special"):
            raise TokenizerError(
                f"its added token {content!r} is not special but matched in ordinary text, which is not supported"
            )
        specials[content] = id
    return specials


def read_vocabulary(document: Document) -> dict[str, int]:
    """Every token and its id, special ones included, after checking that the ids are 0 ... n - 1, each once."""
    vocabulary = document["model"].get("vocab")
    require(isinstance(vocabulary, dict) and all(type(id) is int for id in vocabulary.values()), '"vocab" is damaged')
    for token, id in read_specials(document).items():
        require(vocabulary.get(token, id) == id, f"special token {token!r} has two ids")
        vocabulary = {**vocabulary, token: id}
    require(
        len(vocabulary) > 0 and sorted(vocabulary.values()) == list(range(len(vocabulary))),
        f'the ids in "vocab" are not 0 to {len(vocabulary) - 1}, each once',
    )
    return by_id(vocabulary)


def by_id(vocabulary: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(vocabulary.items(), key=lambda item: item[1]))


def require(condition: bool, fault: str) -> None:
    if not condition:
        raise TokenizerError(fault)
