"""From default, preset, file and flags to one `RunConfig`, and from a `RunConfig` to a file that says the same."""

import difflib
import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from glassgpt.config.presets import DEFAULT_PRESET, PRESETS
from glassgpt.config.schema import FIELDS, SECTION_OF, SECTIONS, SHORTEST_TIMED_WARMUP, RunConfig
from glassgpt.errors import ConfigError

# What other schools call our settings. They are refused like any unknown name, but by someone who knows them.
FOREIGN_NAMES = {
    "block_size": "context_length",
    "n_ctx": "context_length",
    "n_positions": "context_length",
    "max_seq_len": "context_length",
    "sequence_length": "context_length",
    "max_position_embeddings": "context_length",
    "emb_dim": "n_embd",
    "d_model": "n_embd",
    "hidden_size": "n_embd",
    "n_layers": "n_layer",
    "num_layers": "n_layer",
    "depth": "n_layer",
    "num_hidden_layers": "n_layer",
    "n_heads": "n_head",
    "num_heads": "n_head",
    "num_attention_heads": "n_head",
    "n_kv_heads": "n_kv_head",
    "num_key_value_heads": "n_kv_head",
    "n_query_groups": "n_kv_head",
    "intermediate_size": "n_inner",
    "hidden_dim": "n_inner",
    "drop_rate": "dropout",
    "weight_tying": "tie_embeddings",
    "tie_word_embeddings": "tie_embeddings",
    "layer_norm_epsilon": "norm_eps",
    "rms_norm_eps": "norm_eps",
    "activation_function": "activation",
    "max_iters": "max_steps",
    "num_iterations": "max_steps",
    "iterations": "max_steps",
    "steps": "max_steps",
    "epochs": "max_steps",
    "num_epochs": "max_steps",
    "num_train_epochs": "max_steps",
    "lr": "learning_rate",
    "max_lr": "learning_rate",
    "min_lr": "decay_to",
    "wd": "weight_decay",
    "warmup": "warmup_steps",
    "warmup_iters": "warmup_steps",
    "lr_decay_iters": "max_steps",
    "lr_scheduler_type": "schedule",
    "device_batch_size": "micro_batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "batch_size",
    "max_grad_norm": "grad_clip",
    "grad_norm_clip": "grad_clip",
    "eval_interval": "eval_every",
    "eval_freq": "eval_every",
    "save_interval": "save_every",
    "save_steps": "save_every",
    "log_interval": "log_every",
    "logging_steps": "log_every",
    "dtype": "precision",
    "dataset": "data",
    "out_dir": "out",
    "output_dir": "out",
    "num_threads": "threads",
}


def suggestion(name: str, known: Mapping[str, Any] | set[str]) -> str:
    """'; here it is called context_length', '; did you mean n_layer?', or nothing."""
    plain = name.lower().lstrip("-").replace("-", "_")
    if plain in FOREIGN_NAMES:
        return f"; here it is called {FOREIGN_NAMES[plain]}"
    close = difflib.get_close_matches(plain, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def build_config(
    *, preset: str | None = None, file: Path | None = None, flags: Mapping[str, Any] | None = None
) -> RunConfig:
    """One run configuration. Precedence: default < preset < file < flag.

    `flags` maps setting names to values, absent ones left out. A preset named here wins over one named in the file.
    Raises ConfigError on unknown names, wrong types and values that do not fit.
    """
    in_file, file_preset = read_file(file) if file else ({}, None)
    in_flags = {name: _checked(name, value, "flag") for name, value in (flags or {}).items()}
    name = preset or file_preset or DEFAULT_PRESET
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is not known{suggestion(name, PRESETS)}; there are: {', '.join(PRESETS)}")
    asked = in_file | in_flags
    merged = _fitting_preset(name, asked)
    for level in (in_file, in_flags):
        _make_room(merged, level)
        merged.update(level)
    _cut_to_fit(merged, asked)
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, value in merged.items():
        sections[SECTION_OF[key]][key] = value
    return RunConfig(preset=name, **{section: kind(**sections[section]) for section, kind in SECTIONS.items()})


def _make_room(merged: dict[str, Any], level: Mapping[str, Any]) -> None:
    """What a higher level says takes back what only made sense with a lower level's value."""
    if level.get("minutes") and not level.get("max_steps"):
        merged.pop("max_steps", None)
    if level.get("max_steps") and not level.get("minutes"):
        merged.pop("minutes", None)
    if level.get("tokenizer", merged.get("tokenizer")) != merged.get("tokenizer"):
        merged.pop("vocab_size", None)


def _fitting_preset(name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's values, without those that only made sense with the shape that it would have had."""
    values = dict(PRESETS[name])
    if asked.get("architecture", "modern") != "modern" or "n_head" in asked or "n_embd" in asked:
        values.pop("n_kv_head", None)
        values.pop("head_dim", None)
    if "n_embd" in asked:
        values.pop("n_inner", None)
    return values


def _cut_to_fit(merged: dict[str, Any], asked: Mapping[str, Any]) -> None:
    """A preset's warmup and micro batch give way to what was asked for; what was asked for itself is left alone."""
    steps = merged.get("max_steps", 0)
    if steps and "warmup_steps" not in asked and merged.get("warmup_steps", 100) > steps // 10:
        merged["warmup_steps"] = steps // 10
    if merged.get("minutes") and "warmup_steps" not in asked:
        merged["warmup_steps"] = max(SHORTEST_TIMED_WARMUP, merged.get("warmup_steps", 100))
    batch, micro = merged.get("batch_size", 32), merged.get("micro_batch_size", 0)
    if micro and "micro_batch_size" not in asked:
        merged["micro_batch_size"] = next((n for n in range(min(micro, batch), 1, -1) if batch % n == 0), 1)


def _checked(name: str, value: Any, where: str) -> Any:
    """`value` in the type of the setting `name`."""
    if name not in FIELDS:
        raise ConfigError(f"{where} {name!r} is not a setting{suggestion(name, FIELDS)}")
    wanted = FIELDS[name].type
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            words = {word: word for word in get_args(wanted)}
            hint = suggestion(str(value), words)
            raise ConfigError(f"{name} {value!r} is not one of {', '.join(words)}{hint}")
        return value
    if get_origin(wanted) is tuple:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, (list, tuple)) and all(isinstance(v, str) for v in values):
            return tuple(values)
    elif wanted is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # neither nan nor infinite
            return float(value)
    elif isinstance(wanted, type) and isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    words_for = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}
    kind = words_for[wanted] if isinstance(wanted, type) and wanted in words_for else "a list of texts"
    raise ConfigError(f"{name} is {value!r}; it has to be {kind}")


def read_file(path: Path) -> tuple[dict[str, Any], str | None]:
    """Settings by flat name, and the preset that the TOML file names, if any."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path} is not there; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is what a number of 5000 digits gives
        raise ConfigError(f"config file {path} is not TOML: {error}") from None
    preset = content.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise ConfigError(f"preset in {path} is {preset!r}; it has to be text in quotes")
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
            if SECTION_OF.get(name, section) != section:
                raise ConfigError(f"{path}: {name} stands under [{section}]; put it under [{SECTION_OF[name]}]")
            values[name] = _checked(name, value, f"{path}:")
    return values, preset


def config_text(config: RunConfig) -> str:
    """The TOML text of every setting, each with its meaning. `read_file` gives the same values back."""
    lines = [f"preset = {json.dumps(config.preset)}"]
    for section, kind in SECTIONS.items():
        lines += ["", f"[{section}]"]
        for name in (n for n, s in SECTION_OF.items() if SECTIONS[s] is kind):
            value = getattr(getattr(config, section), name)
            shown = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
            shown = shown.replace("\x7f", "\\u007f")  # JSON writes this one as it is, TOML does not take it
            lines.append(f"{name + ' = ' + shown:<36} # {FIELDS[name].metadata['doc']}")
    return "\n".join(lines) + "\n"
