"""Which settings of a run may change on its way, and which of them did."""

from collections.abc import Mapping
from typing import Any

from glassgpt.config.schema import FIELDS, SECTION_OF, RunConfig

# What the weights, their optimizer and the order of the text are made of stays.
FIXED = (
    *(name for name, section in SECTION_OF.items() if section in ("model", "finetune")),
    "tokenizer", "text_field", "task", "seed", "batch_size", "optimizer",
)  # fmt: skip
# What only looks on may change, the place of the text (its content is compared), the time of a run whose number of steps it
# still decides, and the cut of a batch into micro batches, which the run itself changes where memory is short.
FREE = (
    "data",
    "minutes",
    "eval_every",
    "save_every",
    "sample_every",
    "log_every",
    "keep_checkpoints",
    "micro_batch_size",
)
# The flags of `glassgpt resume`: what is not free changes what comes after, so that it has to be said.
CHANGEABLE = tuple(name for name in FIELDS if name not in (*FIXED, "data", "minutes"))


def changed_settings(before: Mapping[str, Any], config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """What a checkpoint was trained with (`RunConfig.flat`, as its state holds it) and what is set now, of the settings that
    matter."""
    before, now = {"task": "text"} | dict(before), config.flat()
    compared = [name for name in now if name not in FREE]
    if before.get("minutes") and not now["minutes"]:  # the number of steps was found out after this checkpoint
        compared.remove("max_steps")
    # An older version may not have known a setting.
    return {name: (before[name], now[name]) for name in compared if before.get(name, now[name]) != now[name]}
