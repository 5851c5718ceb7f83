"""Which settings of a run may change on its way, and which of them did."""

from collections.abc import Container, Mapping
from typing import Any

from glassgpt.config.schema import FIELDS, INTERVALS, SECTION_OF, RunConfig, shown_name

# What the weights, their optimizer and the order of the text are made of stays.
FIXED = (
    *(name for name, section in SECTION_OF.items() if section in ("model", "finetune")),
    "tokenizer", "text_field", "task", "seed", "batch_size", "optimizer",
)  # fmt: skip
# What only looks on may change, the place of the text (its content is compared), the time of a run whose number of steps it
# still decides, the cut of a batch into micro batches, which the run itself changes where memory is short, and how many of
# those are computed at a time.
FREE = (
    "data",
    "minutes",
    *INTERVALS,
    "log_every",
    "keep_checkpoints",
    "micro_batch_size",
    "replicas",
)
# Of what stays, that which a new run may have although it goes on from this one's weights.
OF_A_NEW_RUN = ("dropout", "context_length", "data", "text_field", "task", "seed", "batch_size", "optimizer", "lora")
# The flags of `glassgpt resume`: what is not free changes what comes after, so that it has to be said.
CHANGEABLE = tuple(name for name in FIELDS if name not in (*FIXED, "data", "minutes"))


def changed_settings(
    before: Mapping[str, Any], config: RunConfig, also: Container[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """What a checkpoint was trained with (`RunConfig.flat`, as its state holds it) and what is set now, of the settings that
    matter, and of those in `also`."""
    before, now = {"task": "text"} | dict(before), config.flat()
    compared = [name for name in now if name not in FREE or name in also]
    if before.get("minutes") and not now["minutes"]:  # the number of steps was found out after this checkpoint
        compared.remove("max_steps")
    # An older version may not have known a setting.
    return {name: (before[name], now[name]) for name in compared if before.get(name, now[name]) != now[name]}


def why_not_changeable(name: str) -> str | None:
    """Why a setting is no flag of `glassgpt resume`, and what to do instead; None where it is one, or no setting."""
    if name not in FIELDS or name in CHANGEABLE:
        return None
    flag = f"--{shown_name(name).replace('_', '-')}"
    if name == "minutes":
        return f"{flag} only says how long a new run is; a run under way is told in steps: glassgpt resume RUN --max-steps N"
    if name == "data":
        return f"{flag} is no flag of resume; text that was moved is named in the run's config.toml, and its content compared"
    instead = "a run that has another begins anew: glassgpt train TEXT"
    if name in OF_A_NEW_RUN:
        instead = "a new run can have another, and go on from this one's weights: glassgpt train TEXT --from RUN"
    return f"{flag} cannot change on the way (glassgpt resume --help lists what can); {instead} {flag} ..."
