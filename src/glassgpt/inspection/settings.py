"""The settings of a run as a page shows them."""

from typing import Any

from glassgpt.config import PRESETS, RunConfig
from glassgpt.config.presets import RECIPES
from glassgpt.config.schema import FIELDS, SECTION_OF, SECTIONS, shown_name
from glassgpt.inspection.figures import in_words

NO_PART, BECAME = "plays no part here", "became max_steps"


def words_of(config: RunConfig) -> dict[str, str]:
    """The settings that play a part, in the order of config.toml, and what each is, in words."""
    words = {name: in_words(value) for name, value in config.in_use().items()}
    # Once they are used up they are 0 in config.toml, as if the run had not been given minutes.
    if "minutes" not in words and "max_steps" not in asked_in(config) and was_given_minutes(config):
        words["minutes"] = f"{in_words(config.minutes_given)}, {BECAME}" if config.minutes_given else BECAME
    return {name: words[name] for name in FIELDS if name in words}


def asked_in(config: RunConfig) -> set[str]:
    return {*config.asked, *(name for name, _ in config.changed)}


def was_given_minutes(config: RunConfig) -> bool:
    return "minutes" in config.asked or bool(preset_of(config).get("minutes"))


def preset_of(config: RunConfig) -> dict[str, Any]:
    """What the run's preset decides: nothing where this version does not know it. Where a run goes on from another model, that
    one has decided its shape and its tokenizer."""
    preset = (PRESETS | RECIPES).get(config.preset)
    if preset is None:
        return {}
    came_along = {"from_", "lora", "tokenizer", *(name for name in FIELDS if SECTION_OF[name] == "model")}
    decided = FIELDS.keys() - came_along if config.finetune.from_ else FIELDS.keys()
    return {name: FIELDS[name].default for name in decided} | preset


def settings_of(config: RunConfig) -> list[dict[str, Any]]:
    """By section: of every setting that plays a part, or was asked for, its value, what the run's preset has (None where
    it does not decide that), and whether a person asked for it."""
    asked, before, values, words = asked_in(config), preset_of(config), config.flat(), words_of(config)
    values["minutes"] = values["minutes"] or config.minutes_given
    return [
        {
            "section": section,
            "settings": [
                {
                    "name": shown_name(name),
                    "value": words.get(name, f"{in_words(values[name])} ({NO_PART})"),
                    "preset": in_words(before[name]) if name in before else None,
                    "asked": name in asked,
                    "differs": name in before and values[name] != before[name],
                    "doc": FIELDS[name].metadata["doc"],
                }
                for name in FIELDS
                if SECTION_OF[name] == section and (name in words or name in asked)
            ],
        }
        for section in SECTIONS
    ]
