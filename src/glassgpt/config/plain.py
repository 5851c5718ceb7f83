"""What a file says, before anyone believes it: JSON that can be walked and written again, and values in the type that was
expected. Both raise ValueError; the caller knows which file it is, and what to do."""

import json
import sys
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

MOST_NESTED = 100  # far below Python's own limit of 1000 calls, of which writing a level again takes several


def parse_json(text: str | bytes) -> Any:
    """As json.loads, but not nested too deeply, and without halves of characters, which no file can be written with."""
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    too_deep = f"it is nested more than {MOST_NESTED} levels deep"
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [content]
    for _ in range(MOST_NESTED):
        inner = (node.values() if isinstance(node, dict) else node for node in level if isinstance(node, (dict, list)))
        level = [value for values in inner for value in values]
        if not level:
            break
    else:
        raise ValueError(too_deep)
    if "\\u" in text:
        try:
            json.dumps(content, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a surrogate pair, which is no character") from None
    return content


def typed(kind: Any, value: Any, name: str) -> Any:
    """`value`, as JSON holds it, as the type `kind`: a plain type, where a whole number is a count and a float finite; a
    union, Literal, tuple[X, ...] or dict[str, X]; or a dataclass, of its fields."""
    outer, inside = get_origin(kind), get_args(kind)
    if outer in (Union, UnionType):
        for choice in inside:
            with suppress(ValueError):
                return typed(choice, value, name)
    elif outer is Literal:
        if value in inside:
            return value
    elif outer is tuple and isinstance(value, list):
        return tuple(typed(inside[0], entry, f"an entry of {name}") for entry in value)
    elif outer is dict and isinstance(value, dict):
        return {key: typed(inside[1], entry, f"{name}.{key}") for key, entry in value.items()}
    elif is_dataclass(kind) and isinstance(value, dict):
        return _record(kind, value, name)
    elif kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    elif (type(value) is kind and kind not in (int, float)) or (
        kind is int and type(value) is int and 0 <= value < 2**63
    ):
        return value
    elif kind is type(None) and value is None:
        return None
    raise ValueError(f"{name} is {value!r:.40}, which is not {_words(kind)}")


def _record(kind: Any, value: dict[str, Any], name: str) -> Any:
    types = get_type_hints(kind)
    unknown = sorted(value.keys() - types.keys())
    if unknown:
        raise ValueError(f"{name} has an unknown entry {unknown[0]!r:.40}")
    for field in fields(kind):
        if field.name not in value and field.default is field.default_factory is MISSING:
            raise ValueError(f"{name} has no entry {field.name!r}")
    return kind(**{entry: typed(types[entry], content, entry) for entry, content in value.items()})


def _words(kind: Any) -> str:
    words = {int: "a whole number from 0 on", float: "a finite number", bool: "true or false", str: "a text"}
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_words(choice) for choice in get_args(kind))
    return words.get(kind, "null" if kind is type(None) else "a list" if get_origin(kind) is tuple else "an object")
