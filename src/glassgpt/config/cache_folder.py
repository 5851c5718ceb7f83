"""Where GlassGPT keeps what it downloaded or prepared and can make again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$GLASSGPT_CACHE`, or `~/.cache/glassgpt` where that is unset or empty. Not created here; safe to delete."""
    named = os.environ.get("GLASSGPT_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "glassgpt"
