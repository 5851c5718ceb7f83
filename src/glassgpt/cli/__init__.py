"""The command `glassgpt`: one file per verb, each a recipe that fits on one screen. Nothing here loads torch until a verb
needs it."""

from glassgpt.cli.main import main

__all__ = ["main"]
