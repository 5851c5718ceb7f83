"""What to change where training does not fit."""

from collections.abc import Callable, Iterator
from typing import Any

from glassgpt.config import RunConfig, build_config
from glassgpt.plan.family import OF_GPT2

SHORTEST_CONTEXT = 64  # that is worth advising
Needed = Callable[[RunConfig, int, int], int]  # bytes, of a configuration, a micro batch and so many replicas


def advice(config: RunConfig, here: dict[str, Any], available: int, needed: Needed) -> list[str]:
    """Where it does not fit, or not into what is `available` now (bytes): the first change with which it then does."""
    if here["fits"] and here["needed"] <= available:
        return []
    same = (words for words, way in same_training(config, here) if needed(*way) <= available)
    if (words := next(same, None)) is not None:
        return [words]
    if here["fits"]:
        return ["close other programs: what is free now is less than it needs"]
    other = (words for words, way in other_training(config) if needed(*way) <= available)
    return [next(other, "nothing here holds it; a smaller preset, or a larger machine")]


def same_training(config: RunConfig, here: dict[str, Any]) -> Iterator[tuple[str, tuple[RunConfig, int, int]]]:
    """Ways to do the same updates in less memory."""
    size, batch = here["micro_batch_size"], config.train.batch_size
    alone = ""
    if here["replicas"] > 1:
        alone = " --replicas 1"
        yield "--replicas 1: one model that has all threads, slower", (config, size, 1)
    for smaller in range(size - 1, 0, -1):
        if batch % smaller == 0:
            yield f"--micro-batch-size {smaller}{alone}: the same updates, in smaller pieces", (config, smaller, 1)
    if not config.train.gradient_checkpointing:
        words = f"--gradient-checkpointing --micro-batch-size 1{alone}: less memory, a third slower"
        yield words, (config.resolved(gradient_checkpointing=True), 1, 1)


def other_training(config: RunConfig) -> Iterator[tuple[str, tuple[RunConfig, int, int]]]:
    """Ways to train something else instead."""
    is_published = config.preset in OF_GPT2 and config.model == build_config(preset=config.preset).model
    if is_published and not config.finetune.from_:
        words = f"--from {config.preset} --lora 8 --micro-batch-size 1: adapters of the published model learn"
        yield words, (config.resolved(from_=config.preset, lora=8), 1, 1)
    c = config.model
    context = 2 ** max(0, (c.context_length - 1).bit_length() - 1)  # the power of two below it
    while context >= max(SHORTEST_CONTEXT, c.n_gram):
        words = f"--context-length {context} --micro-batch-size 1: what a step holds grows with the context"
        yield words, (config.resolved(context_length=context), 1, 1)
        context //= 2
