"""`glassgpt train`: from text to a model that writes."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.flags import sources, with_setting_flags
from glassgpt.config import build_config, describe_presets
from glassgpt.config.schema import FIELDS


def train(
    *text: Annotated[
        str, Parameter(help="files, folders, globs, - (standard input), a prepared folder, python, shakespeare")
    ],
    preset: Annotated[str | None, Parameter(help=f"a named starting point: {describe_presets()}")] = None,
    config: Annotated[Path | None, Parameter(help="a TOML file of settings, for instance a run's config.toml")] = None,
    out: Annotated[
        Path | None, Parameter(help="folder of the run; a new one under runs/ where nothing is said")
    ] = None,
    **settings: Any,
) -> None:
    """Train a model on text; with no argument, on Python's standard library, in under four minutes.

    What a setting is: its default, or the preset's value, or the config file's, or the flag's; the later wins.
    In brackets: what it is where nothing is said, under preset mini.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if text:
        given["data"] = sources(text)
    resolved = build_config(preset=preset, file=config, flags=given)
    if "-" in resolved.data.data and sys.stdin.isatty():
        print("reading text from the keyboard; end it with Ctrl-D (Windows: Ctrl-Z and Enter)", file=sys.stderr)

    from glassgpt.cli.display import TrainingDisplay, goodbye, training_sample  # these load torch
    from glassgpt.machine import keep_freed_memory, process_seconds
    from glassgpt.train import train_run

    keep_freed_memory()
    with TrainingDisplay() as display:
        run = train_run(
            resolved,
            out=out,
            observers=[display],
            sample=training_sample,
            started=time.monotonic() - process_seconds(),
        )
    goodbye(run)


train = with_setting_flags(train, [name for name in FIELDS if name != "data"], defaults=True)
