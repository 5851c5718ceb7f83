"""`glassgpt plan`: what a model is made of, and what training it will take."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.flags import with_setting_flags
from glassgpt.config import build_config, describe_presets
from glassgpt.config.schema import FIELDS
from glassgpt.errors import ConfigError

UNITS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
TIMES = ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


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

    console = Console(highlight=False)
    for line in costs["diagram"]:
        console.print(line, markup=False, no_wrap=True, overflow="ellipsis")
    for shown in tables(costs):
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
        raise ConfigError(f"--tokens {text!r} is no number of tokens; say it as 300M, 10B or 2.5e9")
    return number


def print_json(data: Any) -> None:
    import json

    print(json.dumps(data, indent=2))


def tables(costs: dict[str, Any]) -> list[Any]:
    from rich.text import Text

    count, flops = costs["parameters"], costs["flops_a_token"]
    total = count["total"]
    parts = table("parameters", "", "share")
    for name in ("embedding", "positions", "attention", "mlp", "norms", "head"):
        if count[name]:
            parts.add_row(PARTS[name], f"{count[name]:,}", f"{count[name] / total:.1%}")
    parts.add_row("in all", f"{total:,}", "")
    other = "untied" if count["head"] == 0 else "tied"
    parts.add_row(f"in all, output layer {other}", f"{count[other]:,}", "")
    parts.add_row(
        "rule of thumb: 12 n_layer n_embd²", f"{count['rule_of_thumb']:,}", f"{count['rule_of_thumb'] / total:.1%}"
    )
    parts.add_row("it stands for attention and MLP", f"{count['in_blocks']:,}", "")
    here = costs["machines"][0]
    memory = table("memory", "training", "generation")
    written = costs["generation"]
    for name, words in MEMORY.items():
        if costs["training"].get(name) or written.get(name):
            memory.add_row(words, *(size(part[name]) if name in part else "" for part in (costs["training"], written)))
    at_once = sum(costs["training"].values()) - here["needed"] < 1 << 20
    peak = f"process at its peak{'' if at_once else ', not all at once'}"
    memory.add_row(peak, size(here["needed"]), size(sum(written.values())))
    rate = table("operations", "a token", "a step")
    a_step, unit = (1e12, "TFLOP") if sum(flops.values()) * costs["tokens_a_step"] >= 1e12 else (1e9, "GFLOP")
    for name, value in (*flops.items(), ("in all", sum(flops.values()))):
        if not value:
            continue
        rate.add_row(name, f"{value / 1e6:,.1f} MFLOP", f"{value * costs['tokens_a_step'] / a_step:,.2f} {unit}")
    budget, is_padded = f"{in_short(costs['tokens'])} tokens", costs["task"] in ("labels", "conversations")
    times = table("machine", "micro batch", "memory", "of", "tokens/s", "at most " * is_padded + budget)
    for machine in costs["machines"]:
        mark = "" if machine["measured"] else "~"
        speed = machine["tokens_per_second"]
        times.add_row(
            machine["name"],
            f"{machine['micro_batch_size']}{' x ' + str(machine['replicas']) if machine.get('replicas', 1) > 1 else ''}",
            size(machine["needed"]),
            size(machine["memory"]),
            (f"{speed:,.0f}" if machine["measured"] else f"~{in_short(speed)}") if speed and machine["fits"] else "",
            (mark + roughly(machine["seconds"])).replace("~<", "<") if machine["seconds"] else "does not fit",
        )
    taken = (
        f"Here a piece of a step was measured ({here['precision']}, without torch.compile); validations, samples and "
        "checkpoints come on top."
    )
    replicas, each = here["replicas"], here["micro_batch_size"]
    notes = [
        f"{budget} are {costs['tokens_of']}. {taken if here['fits'] else ''}",
        "GPUs are estimates throughout: 40 % of the peak that the maker names, in bfloat16, and half of the memory left free."
        + (" A model as small as this keeps no GPU busy, and takes longer." if costs["shape"]["n_embd"] < BUSY else ""),
    ]
    if replicas > 1:
        notes.append(
            f"{each} x {replicas}: {replicas} replicas of the model, a thread each, compute {each} "
            f"sequence{'s' * (each > 1)} each at the same time; the drawing shows one of them, the memory is that of all."
        )
    if costs["vocabulary_guessed"]:
        guess = f"{costs['shape']['vocab_size']:,} tokens"
        notes.append(
            f"The vocabulary will be made of the text; counted with {guess} (--vocab-size says another number)."
        )
    if costs["sized_for_minutes"]:
        notes.append(
            f"The size is what {costs['sized_for_minutes']:g} minutes here are worth for a long text; a short one takes a "
            "smaller model, or ends sooner."
        )
    if is_padded:
        at_most = (
            "At most: every text is counted as if it filled the context; shorter ones take less time, and less memory."
        )
        if costs["task"] == "labels":
            at_most += (
                " And as if every word of the vocabulary were scored at every token, which labels do not ask for."
            )
        notes.insert(0, at_most)
    notes += [f"To make it fit here: {line}" for line in costs["advice"]]
    return [parts, rate, memory, times, *(Text(note) for note in notes)]


PARTS = {
    "embedding": "token embedding", "positions": "position embedding", "attention": "attention", "mlp": "MLP",
    "norms": "norms", "head": "output layer",
}  # fmt: skip
MEMORY = {
    "python_and_torch": "Python and torch", "weights": "weights", "gradients": "gradients", "optimizer": "optimizer",
    "activations": "activations", "logits": "logits", "checkpoint": "copy for a checkpoint",
    "between_tensors": "places between tensors", "cache": "cache, a whole context", "working": "block at work, sampling",
}  # fmt: skip
BUSY = 512  # n_embd


def table(title: str, *columns: str) -> Any:
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    made.add_column(title, no_wrap=True)
    for column in columns:
        made.add_column(column, justify="right")
    return made


def size(value: float) -> str:
    return f"{value / 2**30:,.2f} GiB" if value >= 2**30 else f"{value / 2**20:,.1f} MiB"


def in_short(number: float) -> str:
    unit, letter = next(((u, k) for k, u in reversed(UNITS.items()) if number >= u), (1, ""))
    return f"{number / unit:.3g}{letter}"


def roughly(seconds: float) -> str:
    unit, name = next(((u, n) for u, n in TIMES if seconds >= 1.5 * u), TIMES[-1])
    return f"{seconds / unit:,.1f} {name}" if seconds >= 0.1 else "< 0.1 s"


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
