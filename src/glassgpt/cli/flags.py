"""Every setting as a flag of the same name: the dataclasses in config/schema.py are the only place that lists them."""

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token

from glassgpt.cli.main import STANDARD_INPUT
from glassgpt.config.presets import DEFAULT_PRESET, PRESETS
from glassgpt.config.schema import FIELDS, SECTION_OF, SECTIONS, shown_name
from glassgpt.errors import ConfigError


def whole_number(kind: Any, tokens: Sequence[Token]) -> int:
    """cyclopts itself rounds 2.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


WholeNumber = Annotated[int, Parameter(converter=whole_number)]
# What several verbs ask for, in the same words.
Temperature = Annotated[float, Parameter(help="0: always the likeliest token; 1: as learned [0.8]")]
TopK = Annotated[WholeNumber, Parameter(help="draw from the k likeliest tokens only; 0: from all [200]")]
TopP = Annotated[float, Parameter(help="draw from the likeliest tokens that together reach p [1.0]")]
RunToRead = Annotated[Path | None, Parameter(help="a run or one checkpoint; the newest run where nothing is said")]
TokenizerOfModel = Annotated[
    str | None, Parameter(help="a kind or the path of a tokenizer.json, for a model that came without one")
]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1, mps; auto: the fastest there is [auto]")]

GROUPS = {
    section: Group(f"{section.capitalize()} settings", sort_key=10 + order) for order, section in enumerate(SECTIONS)
}


def with_setting_flags(verb: Callable[..., Any], names: Iterable[str], *, defaults: bool) -> Callable[..., Any]:
    """`verb`, whose **settings become one flag for each of these settings. A flag that was not given is not passed. The help
    says the `defaults`, where it is these that hold then."""
    signature = inspect.signature(verb)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                FIELDS[name].type | None,  # type: ignore[operator]
                Parameter(
                    name=_flag(name),
                    help=FIELDS[name].metadata["doc"] + (f" [{_default(name)}]" if defaults else ""),
                    group=GROUPS[SECTION_OF[name]],
                    converter=whole_number if FIELDS[name].type is int else None,
                ),
            ],
        )
        for name in names
    ]
    verb.__signature__ = signature.replace(parameters=own + flags)  # type: ignore[attr-defined]
    verb.__annotations__ = {p.name: p.annotation for p in own + flags}
    return verb


def _flag(name: str) -> str:
    return "--" + shown_name(name).replace("_", "-")


def _default(name: str) -> Any:
    default = PRESETS[DEFAULT_PRESET].get(name, FIELDS[name].default)
    return {True: "on", False: "off"}.get(default, default) if isinstance(default, bool) else default


def sources(arguments: Sequence[str]) -> tuple[str, ...]:
    """Positional texts as the data package names them."""
    return tuple("-" if argument == STANDARD_INPUT else argument for argument in arguments)


def prompt_text(argument: str) -> str:
    """What --prompt stands for: itself, or all of standard input but for the line break that `echo` puts at its end, unless
    there is nothing else. Raises ConfigError where nothing came."""
    if argument != STANDARD_INPUT:
        return argument
    if text := sys.stdin.read():
        return text.removesuffix("\n") or text
    raise ConfigError("nothing came on standard input, which --prompt - reads; send it a text, or leave --prompt out")


def given_text(prompt: str | None) -> str | None:
    """What --prompt of a verb that looks into a model stands for, None where it is not given. Raises ConfigError where it is
    empty."""
    if prompt == "":
        raise ConfigError("--prompt is empty, and there is nothing to read; give it a text, or leave it out")
    return None if prompt is None else prompt_text(prompt)
