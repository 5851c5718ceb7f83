"""A plan in the terminal: its tables, and what has to be said beside them."""

from collections.abc import Iterator
from typing import Any

UNITS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
BYTES = ((1 << 60, "EiB", 2), (1 << 50, "PiB", 2), (1 << 40, "TiB", 2), (1 << 30, "GiB", 2), (1 << 20, "MiB", 1))
TIMES = ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
PARTS = {
    "embedding": "token embedding", "n_grams": "n-gram embeddings", "positions": "position embedding",
    "attention": "attention", "mlp": "MLP", "norms": "norms", "head": "output layer", "adapters": "adapters",
}  # fmt: skip
MEMORY = {
    "python_and_torch": "Python and torch", "weights": "weights", "gradients": "gradients", "optimizer": "optimizer",
    "activations": "activations", "logits": "logits, their gradients", "checkpoint": "copy for a checkpoint",
    "fragmentation": "fragmentation of the heap", "validation": "validation, beyond that",
    "trial": "trial of bfloat16, beyond that", "cache": "cache, a whole context", "working": "block at work, sampling",
}  # fmt: skip
INSTEAD = {"bfloat16": "float32", "replicas": "one model with all threads"}
NEARLY = 1.1  # a gain as near as this to what it takes may be on the other side when it is measured again


def tables(costs: dict[str, Any]) -> list[Any]:
    return [parameters(costs), operations(costs), memory(costs), machines(costs)]


def parameters(costs: dict[str, Any]) -> Any:
    count = costs["parameters"]
    total = count["total"]
    shown = table("parameters", "", "share")
    for name, words in PARTS.items():
        if count[name]:
            shown.add_row(words, f"{count[name]:,}", f"{count[name] / total:.1%}")
    shown.add_row("in all", f"{total:,}", "")
    if costs["task"] != "labels":
        other = "untied" if count["head"] == 0 else "tied"
        shown.add_row(f"in all, output layer {other}", f"{count[other]:,}", "")
    thumb = count["rule_of_thumb"]
    shown.add_row("rule of thumb: 12 n_layer n_embd²", f"{thumb:,}", f"{thumb / total:.1%}")
    shown.add_row("it stands for attention and MLP", f"{count['in_blocks']:,}", "")
    return shown


def operations(costs: dict[str, Any]) -> Any:
    flops, tokens = costs["flops_a_token"], costs["tokens_a_step"]
    shown = table("operations", "a token", "a step")
    a_step, unit = (1e12, "TFLOP") if sum(flops.values()) * tokens >= 1e12 else (1e9, "GFLOP")
    for name, value in (*flops.items(), ("in all", sum(flops.values()))):
        if value:
            shown.add_row(name, f"{value / 1e6:,.1f} MFLOP", f"{value * tokens / a_step:,.2f} {unit}")
    return shown


def memory(costs: dict[str, Any]) -> Any:
    training, written, needed = costs["training"], costs["generation"], costs["machines"][0]["needed"]
    columns = {"training": training} | ({"generation": written} if written else {})
    shown = table("memory", *columns)
    for name, words in MEMORY.items():
        if any(part.get(name) for part in columns.values()):
            shown.add_row(words, *(size(part[name]) if part.get(name) else "" for part in columns.values()))
    at_once = sum(training.values()) - needed < 1 << 20
    peak = f"process at its peak{'' if at_once else ', not all at once'}"
    shown.add_row(peak, size(needed), *([size(sum(written.values()))] if written else []))
    return shown


def machines(costs: dict[str, Any]) -> Any:
    shown = table("machine", "micro batch", "memory", "of", "tokens/s", "≤ " * is_padded(costs) + budget(costs))
    for machine in costs["machines"]:
        slower, longer = ("", "") if machine["measured"] else ("< ", "> ") if machine["is_bound"] else ("~", "~")
        speed, seconds, replicas = machine["tokens_per_second"], machine["seconds"], machine["replicas"]
        shown.add_row(
            machine["name"],
            f"{machine['micro_batch_size']}{f' x {replicas}' if replicas > 1 else ''}",
            size(machine["needed"]),
            size(machine["memory"]),
            (f"{speed:,.0f}" if machine["measured"] else slower + in_short(speed)) if speed and machine["fits"] else "",
            longer * (seconds >= 0.1) + roughly(seconds) if seconds else "" if machine["fits"] else "does not fit",
        )
    return shown


def notes(costs: dict[str, Any]) -> Iterator[str]:
    """What a reader of the tables has to know, the most important first."""
    from glassgpt.machine.decide import WORTH_IT  # loads torch

    here = costs["machines"][0]
    if is_padded(costs):
        yield (
            "At most: every text is counted as if it filled the context; shorter ones take less time, and less memory."
        )
    measured = (
        f"Here a piece of a step was measured, on the machine as busy as it is now ({here['precision']}, without "
        "torch.compile); start-up, validations, samples and checkpoints take time too."
    )
    are = "are" if costs["tokens"] != 1 else "is"
    yield f"{budget(costs)} {are} {costs['tokens_of']}. {measured if here['fits'] else ''}".rstrip()
    if costs["tokens"] < costs["tokens_a_step"]:
        yield f"Training takes at least a step, which is {costs['tokens_a_step']:,} tokens here."
    for way, gain in here["gains"].items():
        if 1 / NEARLY < gain / WORTH_IT < NEARLY:
            yield (
                f"A close choice: {way} ran at {gain:.2f} x the speed of {INSTEAD[way]}; from {WORTH_IT:g} x on it is made. "
                "Training measures again, and may choose otherwise."
            )
    yield gpus(costs["machines"][1:])
    replicas, each = here["replicas"], here["micro_batch_size"]
    if replicas > 1:
        yield (
            f"{each} x {replicas}: {replicas} replicas of the model, a thread each, compute {each} "
            f"sequence{'s' * (each > 1)} each at the same time; the drawing shows one of them, the memory is that of all."
        )
    if costs["vocabulary_guessed"]:
        yield (
            f"The vocabulary will be made of the text; counted with {costs['shape']['vocab_size']:,} tokens (--vocab-size "
            "says another number). Reading the text comes before training, and for a long one may take more memory."
        )
    sized, short = costs["sized_for_minutes"], costs["short_below"]
    less = f"less than about {in_short(short)} tokens" if short else ""
    if sized:
        yield (
            f"The size is what {sized:g} minutes here are worth for a long text; "
            f"{f'one of {less}' if short else 'a short one'} takes a smaller model, or ends sooner."
        )
    elif short:
        yield f"A text of {less} ends sooner than these minutes: most of it is known by heart then."
    for line in costs["advice"]:
        yield f"To make it fit here: {line}"


def gpus(rows: list[dict[str, Any]]) -> str:
    if rows[0]["tokens_per_second"] is None:
        return (
            "Of GPUs only the memory is told: their peaks in float32 are not known here. With --precision bfloat16 their time "
            "is told too."
        )
    slower = " A model as small as this keeps none of them busy, and takes longer." * rows[0]["is_bound"]
    return (
        "GPUs are estimates throughout: 40 % of the peak in bfloat16 that the maker names, with the micro batch that training "
        f"takes there.{slower}"
    )


def budget(costs: dict[str, Any]) -> str:
    return f"{in_short(costs['tokens'])} token{'s' * (costs['tokens'] != 1)}"


def is_padded(costs: dict[str, Any]) -> bool:
    return costs["task"] in ("labels", "conversations")


def table(title: str, *columns: str) -> Any:
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    made.add_column(title, no_wrap=True)
    for column in columns:
        made.add_column(column, justify="right")
    return made


def size(value: float) -> str:
    unit, name, digits = next((of for of in BYTES if value >= of[0]), BYTES[-1])
    return f"{value / unit:,.{digits}f} {name}"


def in_short(number: float) -> str:
    if number >= 1e15:
        return f"{number:.3g}"
    unit, letter = next(((u, k) for k, u in reversed(UNITS.items()) if number >= 0.9995 * u), (1, ""))
    rounded = float(f"{number / unit:.3g}")  # to three digits
    return f"{rounded:,.0f}{letter}" if rounded >= 100 else f"{rounded:g}{letter}"


def roughly(seconds: float) -> str:
    unit, name = next(((u, n) for u, n in TIMES if seconds >= 1.5 * u), TIMES[-1])
    return f"{seconds / unit:,.1f} {name}" if seconds >= 0.1 else "a moment"
