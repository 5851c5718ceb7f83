"""How one setting is declared, with its meaning and its range, and checked."""

import math
from dataclasses import field, fields
from typing import Any, Literal, get_args, get_origin

from glassgpt.errors import ConfigError

LARGEST = 2**31 - 1  # of any whole number but a seed: no tensor, file or run has more of anything that is set here


def setting(
    default: Any,
    doc: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field together with its meaning and its range."""
    limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    return field(default=default, metadata={"doc": doc, "limits": {k: v for k, v in limits.items() if v is not None}})


def check_ranges(config: Any) -> None:
    for f in fields(config):
        if not f.metadata:
            continue
        value = getattr(config, f.name)
        if isinstance(value, int) and abs(value) > LARGEST and "below" not in f.metadata["limits"]:
            raise ConfigError(f"{f.name} is {value}; it has to be at most {LARGEST}")
        if get_origin(f.type) is Literal and value not in get_args(f.type):
            raise ConfigError(f"{f.name} {value!r} is not one of {', '.join(map(str, get_args(f.type)))}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{f.name} is {value}; it has to be a finite number")
        for words, limit in f.metadata["limits"].items():
            fits = {
                "at least": value >= limit,
                "above": value > limit,
                "at most": value <= limit,
                "below": value < limit,
            }
            if not fits[words]:
                raise ConfigError(f"{f.name} is {value}; it has to be {words} {limit}")


def require_unicode(*texts: str) -> None:
    """A file name that is not UTF-8 reaches Python with lone surrogates in it."""
    for text in texts:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ConfigError(f"{text!r} is not valid Unicode, and no config.toml could hold it; rename the file")
