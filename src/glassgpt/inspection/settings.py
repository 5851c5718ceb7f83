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
        words["minutes"] = BECAME
    return {name: words[name] for name in FIELDS if name in words}


def asked_in(config: RunConfig) -> set[str]:
    return {*config.asked, *(name for name, _ in config.changed)}


def was_given_minutes(config: RunConfig) -> bool:
    return "minutes" in config.asked or bool((preset_of(config) or {}).get("minutes"))


def preset_of(config: RunConfig) -> dict[str, Any] | None:
    """Every setting of the run's preset; None where this version does not know it."""
    preset = (PRESETS | RECIPES).get(config.preset)
    return None if preset is None else {name: preset.get(name, field.default) for name, field in FIELDS.items()}


def settings_of(config: RunConfig) -> list[dict[str, Any]]:
    """By section: of every setting that plays a part, or was asked for, its value, what the run's preset has (None where that
    is not known), and whether a person asked for it."""
    asked, before, values, words = asked_in(config), preset_of(config), config.flat(), words_of(config)
    return [
        {
            "section": section,
            "settings": [
                {
                    "name": shown_name(name),
                    "value": words.get(name) or (f"{in_words(values[name])} ({NO_PART})" if name not in words else ""),
                    "preset": None if before is None else in_words(before[name]),
                    "asked": name in asked,
                    "differs": before is not None and (values[name] != before[name] or words.get(name) == BECAME),
                    "doc": FIELDS[name].metadata["doc"],
                }
                for name in FIELDS
                if SECTION_OF[name] == section and (name in words or name in asked)
            ],
        }
        for section in SECTIONS
    ]
