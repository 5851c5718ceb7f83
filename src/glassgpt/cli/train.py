"""`glassgpt train`: from text to a model that writes."""

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.flags import sources, with_setting_flags
from glassgpt.config import PRESETS, build_config
from glassgpt.errors import ConfigError


def train(
    *text: Annotated[
        str, Parameter(help="files, folders, globs, - (standard input), a prepared folder, python, shakespeare")
    ],
    preset: Annotated[str | None, Parameter(help=f"a named starting point: {', '.join(PRESETS)}")] = None,
    config: Annotated[Path | None, Parameter(help="a TOML file of settings, for instance a run's config.toml")] = None,
    out: Annotated[
        Path | None, Parameter(help="folder of the run; a new one under runs/ where nothing is said")
    ] = None,
    **settings: Any,
) -> None:
    """Train a model on text; with no argument, on Python's standard library, in under four minutes.

    What a setting is: its default, or the preset's value, or the config file's, or the flag's; the later wins.
    In brackets: the default.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if text:
        given["data"] = sources(text)
    refuse_other_tokenizer(given)
    resolved = build_config(preset=preset, file=config, flags=given)

    from glassgpt.cli.display import TrainingDisplay, goodbye, training_sample  # these load torch
    from glassgpt.machine import process_started
    from glassgpt.train import train_run

    with TrainingDisplay() as display:
        run = train_run(
            resolved,
            out=out,
            observers=[display],
            sample=training_sample,
            started=time.monotonic() - (time.time() - process_started()),
        )
    goodbye(run)


def refuse_other_tokenizer(given: dict[str, Any]) -> None:
    """A prepared folder has its tokenizer; asking for another one cannot be meant."""
    from glassgpt.data import is_prepared, load_data

    folder = given.get("data", ("",))[0]
    if "tokenizer" in given and folder and is_prepared(folder):
        kind = load_data(folder).meta.tokenizer_kind
        if given["tokenizer"] != kind:
            raise ConfigError(
                f"{folder} was prepared with tokenizer {kind}, not {given['tokenizer']}; leave --tokenizer out, "
                "or prepare the text again"
            )


train = with_setting_flags(train, without=["data"])
