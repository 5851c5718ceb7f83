"""`glassgpt plan`: what a model is made of, and what training it will take."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.costs import UNITS, notes, size, table, tables
from glassgpt.cli.flags import with_setting_flags
from glassgpt.config import build_config, describe_presets
from glassgpt.config.schema import FIELDS
from glassgpt.errors import ConfigError


def plan(
    *,
    preset: Annotated[str | None, Parameter(help=f"a named starting point: {describe_presets()}")] = None,
    config: Annotated[Path | None, Parameter(help="a TOML file of settings, for instance a run's config.toml")] = None,
    tokens: Annotated[
        str | None, Parameter(help="how many tokens to train on, such as 300M or 10B; none: the run's own")
    ] = None,
    compare: Annotated[
        list[str] | None,
        Parameter(
            help="presets to set side by side, instead of one plan; none: the GPT-2 family", consume_multiple=True
        ),
    ] = None,
    json: Annotated[bool, Parameter(help="print one JSON object", negative=())] = False,
    **settings: Any,
) -> None:
    """What a model is made of and what training it will take, before anything is trained: parameters, operations, memory, time
    on this machine (half a second is measured) and on named GPUs (estimates). Nothing is written."""
    given = {name: value for name, value in settings.items() if value is not None}
    if compare is not None:
        if given or preset or config or tokens is not None:
            raise ConfigError(
                "--compare takes presets, such as --compare gpt2 mini, and nothing beside them; leave the other flags out"
            )
        show_family(compare, json)
        return
    resolved = build_config(preset=preset, file=config, flags=given)
    budget = 0.0 if tokens is None else number_of_tokens(tokens)

    with garbage_kept():
        from glassgpt.machine import keep_freed_memory  # loads torch
        from glassgpt.plan import plan as cost_of

    keep_freed_memory()
    costs = cost_of(resolved, budget)
    if json:
        print_json(costs)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in costs["diagram"]:
        console.print(line, markup=False, no_wrap=True, overflow="ellipsis")
    for shown in (*tables(costs), *(Text(note) for note in notes(costs))):
        console.print()
        console.print(shown)


@contextmanager
def garbage_kept() -> Iterator[None]:
    """Looking for garbage takes a tenth of the import of torch, and another tenth of a second afterwards, where all that was
    loaded is looked through again; and finds none that matters."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def number_of_tokens(text: str) -> float:
    """'10B' -> 1e10."""
    match = re.fullmatch(r"([0-9][0-9,_]*(?:\.[0-9]+)?(?:[eE][0-9]+)?)([KMBT]?)", text.strip(), re.IGNORECASE)
    number = float(re.sub("[,_]", "", match[1])) * UNITS[match[2].upper()] if match else 0.0
    if not 1 <= number <= 1e18:
        raise ConfigError(f"--tokens {text!r} is no number of tokens between 1 and 1e18; say it as 300M, 10B or 2.5e9")
    return number


def print_json(data: Any) -> None:
    import json

    print(json.dumps(data, indent=2))


def show_family(presets: list[str], as_json: bool) -> None:
    with garbage_kept():
        from glassgpt.plan import family  # loads torch

    told = family(presets or None)
    if as_json:
        print_json(told)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    shapes = table("preset", "layers", "heads", "width", "context", "weights", "GFLOP a token", "text read")
    counts = table("preset", "parameters", "output untied", "rule of thumb", "the paper says")
    for model in told["models"]:
        shape, count = model["shape"], model["parameters"]
        about = "~" * model["vocabulary_guessed"]
        shapes.add_row(
            model["preset"], *(f"{shape[name]:,}" for name in ("n_layer", "n_head", "n_embd", "context_length")),
            about + size(model["weights"]), f"{about}{model['flops_a_token'] / 1e9:,.2f}", model["text_read"] or "",
        )  # fmt: skip
        counts.add_row(
            model["preset"],
            f"{about}{count['total']:,}",
            f"{about}{count['untied']:,}",
            f"{count['rule_of_thumb']:,}",
            model["said"] or "",
        )
    console.print(shapes)
    console.print()
    console.print(counts)
    guessed = [model["preset"] for model in told["models"] if model["vocabulary_guessed"]]
    if guessed:
        vocabulary = f"~ at {', '.join(guessed)}: the vocabulary will be made of the text, and is a guess until then."
        told["why"].append(vocabulary)
    for line in told["why"]:
        console.print()
        console.print(Text(line))


plan = with_setting_flags(plan, [name for name in FIELDS if name != "data"], defaults=True)
