"""From default, preset, file and flags to one `RunConfig`, and from a `RunConfig` to a file that says the same."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from glassgpt.config.names import suggestion
from glassgpt.config.presets import DEFAULT_PRESET, OF_THE_OPTIMIZER, PRESETS, RECIPES
from glassgpt.config.schema import (
    FIELDS,
    INTERVALS,
    SECTION_OF,
    SECTIONS,
    RunConfig,
    check_value,
    field_name,
    shown_name,
)
from glassgpt.errors import ConfigError

# In a run's config.toml stand values that followed from others. A flag beside the file frees those that followed from
# what it changes; what a person asked for stays.
_LENGTH = ("warmup_steps", *INTERVALS)
_MEMORY = ("micro_batch_size", "replicas")
FOLLOWS = {
    "max_steps": _LENGTH,
    "minutes": _LENGTH,
    "data": ("vocab_size", "task"),
    "text_field": ("task",),
    "tokenizer": ("vocab_size",),
    "device": ("precision", "compile", "threads", *_MEMORY),
    **dict.fromkeys(("from_", "lora", "gradient_checkpointing", "dropout"), _MEMORY),
    **dict.fromkeys(("batch_size", "context_length", "architecture", "n_layer", "n_embd", "n_inner"), _MEMORY),
    **dict.fromkeys(("threads", "compile", "replicas"), _MEMORY),
    "micro_batch_size": ("replicas",),
}
# Settings that a run of the first version does not list, and what it had instead of today's default.
LATER = {
    **dict.fromkeys(("gradient_checkpointing", "from_", "lora", "lora_alpha", "lora_on", "on_nonfinite", "on_spike")),
    **dict.fromkeys(("matrix_learning_rate", "momentum", "n_gram", "n_gram_rows")),
    "task": "text",
    "replicas": 1,
}
LONGEST = 1 << 20  # characters of a file of settings: a device, say, may have no end


class FileContent(NamedTuple):
    values: dict[str, Any]  # by flat name
    preset: str | None
    asked: tuple[str, ...]  # the settings that a person chose: all of them, where the file does not say
    changed: dict[str, Any]  # what a flag of resume changed
    minutes_given: float


def build_config(
    *, preset: str | None = None, file: Path | None = None, flags: Mapping[str, Any] | None = None
) -> RunConfig:
    """One run configuration. Precedence: default < preset < file < flag.

    `flags` maps setting names to values, absent ones left out. A preset named here wins over one named in the file.
    Raises ConfigError on unknown names, wrong types and values that do not fit, and for a preset beside a file that says every
    setting, as a run's does.
    """
    return _merged(preset, read_file(file) if file else FileContent({}, None, (), {}, 0.0), flags or {})


def load_config(file: Path) -> RunConfig:
    """A run's own config.toml. Raises ConfigError, with the name of the file."""
    content = read_file(file)
    try:
        config = _merged(None, content, {})
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    return replace(config, changed=tuple(content.changed.items()))


def _merged(preset: str | None, in_file: FileContent, flags: Mapping[str, Any]) -> RunConfig:
    in_flags = {name: check_value(name, value, "flag") for name, value in flags.items()}
    both = in_file.values | in_flags
    recipe = "lora" if both.get("lora") else "finetune" if both.get("from_") else DEFAULT_PRESET
    name = preset or in_file.preset or recipe
    whole = in_file.values.keys() >= FIELDS.keys()  # a run's file needs no preset, not even a known one
    if preset and whole:
        raise ConfigError(
            f"the file says every setting, so that preset {preset} would change nothing; leave one of them out"
        )
    known = PRESETS | ({recipe: RECIPES[recipe]} if recipe in RECIPES else {})
    if name not in known and not whole:
        raise ConfigError(f"preset {name!r} is not known{suggestion(name, PRESETS)}; there are: {', '.join(PRESETS)}")
    asked = {*in_file.asked, *in_flags}
    freed = {follower for flag in in_flags for follower in FOLLOWS.get(flag, ()) if follower not in asked}
    kept = {key: value for key, value in in_file.values.items() if key not in freed}
    given = kept | in_flags
    merged = _fitting_preset(known.get(name, {}), given)
    for level in (kept, in_flags):
        _make_room(merged, level)
        merged.update(level)
    _cut_to_fit(merged, given)
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, value in merged.items():
        sections[SECTION_OF[key]][key] = value
    config = RunConfig(
        preset=name,
        asked=tuple(key for key in FIELDS if key in asked),
        minutes_given=in_file.minutes_given,
        **{section: kind(**sections[section]) for section, kind in SECTIONS.items()},
    )
    config.require_useful()
    return config


def _make_room(merged: dict[str, Any], level: Mapping[str, Any]) -> None:
    """What a higher level says takes back what only made sense with a lower level's value."""
    if level.get("minutes") and not level.get("max_steps"):
        merged.pop("max_steps", None)
    if level.get("max_steps") and not level.get("minutes"):
        merged.pop("minutes", None)
    if level.get("tokenizer", merged.get("tokenizer")) != merged.get("tokenizer"):
        merged.pop("vocab_size", None)


def _fitting_preset(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's values, without those that only made sense with the shape or the time that it would have had."""
    values = dict(preset)
    if given.get("architecture", "modern") not in ("modern", "ngram") or "n_head" in given or "n_embd" in given:
        values.pop("n_kv_head", None)
        values.pop("head_dim", None)
    if "n_embd" in given:
        values.pop("n_inner", None)
    if given.get("optimizer") == "adamw" and values.get("optimizer") == "muon":
        for name in OF_THE_OPTIMIZER:
            values.pop(name, None)
    if given.get("minutes"):
        values["warmup_steps"] = 0
    if given.get("minutes") or given.get("max_steps"):
        for interval in INTERVALS:
            values.pop(interval, None)
    return values


def _cut_to_fit(merged: dict[str, Any], given: Mapping[str, Any]) -> None:
    """A preset's warmup gives way to what was asked for; what was asked for itself is left alone."""
    steps = merged.get("max_steps", 0)
    if steps and "warmup_steps" not in given and merged.get("warmup_steps", 100) > steps // 10:
        merged["warmup_steps"] = steps // 10
    if "n_gram" in merged and "n_gram" not in given and merged["context_length"] > 1:
        merged["n_gram"] = min(merged["n_gram"], merged["context_length"])


def read_file(path: Path) -> FileContent:
    """The settings in a TOML file. Raises ConfigError where it is none, or says what no setting can be."""
    content = _read_toml(path)
    preset, asked = content.pop("preset", None), content.pop("asked", None)
    if preset is not None and not isinstance(preset, str):
        raise ConfigError(f"preset in {path} is {preset!r}; it has to be text in quotes")
    if asked is not None and not (isinstance(asked, list) and set(map(str, asked)) <= FIELDS.keys()):
        raise ConfigError(f"asked in {path} is {asked!r}; it has to be a list of names of settings")
    changed = content.pop("changed", {})
    if not isinstance(changed, dict):
        raise ConfigError(f"changed in {path} is {changed!r}; it has to be a table of settings")
    changed = {name: check_value(name, value, f"{path}: changed") for name, value in changed.items()}
    minutes_given = check_value("minutes", content.pop("minutes_given", 0.0), f"{path}: minutes_given:")
    values: dict[str, Any] = {}
    for section, entries in content.items():
        if section not in SECTIONS:
            if section in SECTION_OF:
                raise ConfigError(f"{path}: {section} stands outside a table; put it under [{SECTION_OF[section]}]")
            hint = suggestion(section, FIELDS if not isinstance(entries, dict) else SECTIONS)
            raise ConfigError(f"{path}: {section!r} is not known{hint}; the tables are {', '.join(SECTIONS)}")
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {section} has to be a table: write [{section}] above its settings")
        for name, value in entries.items():
            field = field_name(name)
            if SECTION_OF.get(field, section) != section:
                raise ConfigError(f"{path}: {name} stands under [{section}]; put it under [{SECTION_OF[field]}]")
            values[field] = check_value(field, value, f"{path}:")
    if asked is not None:  # a run's, which lists every setting that there was: no preset of today is to fill in others
        for name, had in LATER.items():
            values.setdefault(name, FIELDS[name].default if had is None else had)
    return FileContent(values, preset, tuple(values if asked is None else asked), changed, minutes_given)


def why_not_whole(path: Path) -> str | None:
    """Why a run's own config.toml, which lists every setting, is not the one that was written, in words that follow its name;
    None where nothing is seen."""
    try:
        content = _read_toml(path)
    except ConfigError as error:
        return str(error).removeprefix(f"config file {path} ")
    if not content:
        return "is empty"
    tables = [entries for section, entries in content.items() if section != "changed" and isinstance(entries, dict)]
    there = {field_name(name) for entries in tables for name in entries}
    if there - FIELDS.keys():
        return None  # a name that somebody wrote wrongly, and `read_file` names
    lacking = [shown_name(name) for name in FIELDS if name not in there | LATER.keys()]
    more = f" and {len(lacking) - 2} others" if len(lacking) > 3 else ""
    named = ", ".join(lacking[: 2 if more else 3])
    return f"is not whole: it lacks {named}{more}, and a run's lists every setting" if lacking else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8-sig") as file:  # Windows' editors begin a file with a mark
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise ConfigError(f"config file {path} is longer than {LONGEST:,} characters; no settings take so many")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"config file {path} is not there; check the path") from None
    except IsADirectoryError:
        raise ConfigError(f"config file {path} is a folder; of a run it is {path / 'config.toml'}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"config file {path} is no text in UTF-8, as a file of settings is") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is what a number of 5000 digits gives
        raise ConfigError(f"config file {path} is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"config file {path} is nested too deeply; settings are plain values in tables") from None


def config_text(config: RunConfig) -> str:
    """The TOML text of every setting, each with its meaning. `read_file` gives the same values back."""
    lines = [
        f"preset = {json.dumps(config.preset)}",
        f"asked = {json.dumps(config.asked)} # by a person; the rest followed from preset, text and machine",
    ]
    if config.minutes_given:
        lines.append(f"minutes_given = {_toml(config.minutes_given)} # max_steps follows from them")
    if config.changed:
        said = ", ".join(f"{name} = {_toml(value)}" for name, value in config.changed)
        lines.append(f"changed = {{{said}}} # by a person, on the way")
    for section, kind in SECTIONS.items():
        lines += ["", f"[{section}]"]
        for name in (n for n, s in SECTION_OF.items() if SECTIONS[s] is kind):
            value = getattr(getattr(config, section), name)
            lines.append(f"{shown_name(name) + ' = ' + _toml(value):<36} # {FIELDS[name].metadata['doc']}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    shown = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return shown.replace("\x7f", "\\u007f")  # JSON writes this one as it is, TOML does not take it
