"""The published sizes side by side, and why one model goes by several numbers."""

from collections.abc import Sequence
from typing import Any

from glassgpt.config import PRESETS, build_config
from glassgpt.errors import ConfigError
from glassgpt.model.size import bytes_of, training_flops
from glassgpt.plan.counts import parameters, shape, with_vocabulary

# What was said of a model when it was published, and where.
SAID = {
    "gpt2": ("117M", "Radford et al. 2019, table 2"),
    "gpt2-medium": ("345M", "Radford et al. 2019, table 2"),
    "gpt2-large": ("762M", "Radford et al. 2019, table 2"),
    "gpt2-xl": ("1542M", "Radford et al. 2019, table 2"),
    "gpt3-175b": ("175.0B", "Brown et al. 2020, table 2.1"),
}
# What there is to explain, and of which sizes.
OF_GPT2 = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
WHY = (
    (
        ("gpt2",),
        "117M, 124M and 163M are said of one model. 124,439,808 numbers are in its file: the output layer is the token "
        "embedding (tied). 163,037,184 counts that matrix twice, as code does that does not tie; the book's, which leaves out "
        "the biases of query, key and value too, has 163,009,536. 117M stands in the paper, and was a miscount, as its "
        "authors said later.",
    ),
    (
        OF_GPT2[1:],
        "345M in the paper is 354,823,168 in the file, hence 355M; 762M is 774M, and 1542M is 1558M: the same miscount.",
    ),
    (
        OF_GPT2,
        "~ is an estimate: the 40 GB of WebText are about nine billion tokens, and how often GPT-2 read them was not "
        "published.",
    ),
    (
        ("gpt3-175b",),
        "GPT-3 read 300 billion tokens; its paper rounds every size, 174,604,259,328 is what its shape comes to. Every other "
        "of its layers has sparse attention, which is counted here like the others'.",
    ),
)
TEXT_READ = dict.fromkeys(OF_GPT2, "~9B x ?") | {"gpt3-175b": "300B"}


def family(presets: Sequence[str] | None = None) -> dict[str, Any]:
    """Of each preset what `plan` counts, without measuring anything; None: of those that were published. Raises ConfigError
    for a name that is none, or stands twice."""
    rows = []
    names = [*SAID] if presets is None else presets
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ConfigError(f"preset {name!r} is named twice; name it once")
        if name not in PRESETS:
            raise ConfigError(f"preset {name!r} is not known; it is one of {', '.join(PRESETS)}")
        config, guessed = with_vocabulary(build_config(preset=name))
        counted = parameters(config.model, config.finetune)
        said, source = SAID.get(name, (None, None))
        rows.append({
            "preset": name, "shape": shape(config.model), "parameters": counted, "said": said, "said_in": source,
            "vocabulary_guessed": guessed, "weights": bytes_of(counted["total"]),
            "flops_a_token": training_flops(config.model), "text_read": TEXT_READ.get(name),
        })  # fmt: skip
    shown = {row["preset"] for row in rows}
    return {"models": rows, "why": [line for presets, line in WHY if shown & {*presets}]}
