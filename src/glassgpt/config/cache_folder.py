"""Where GlassGPT keeps what it downloaded or prepared and can make again."""

import os
from pathlib import Path

from glassgpt.errors import ConfigError


def cache_folder() -> Path:
    """`$GLASSGPT_CACHE`, or `~/.cache/glassgpt` where that is unset or empty. Not created here; safe to delete.

    Raises ConfigError where the home that it begins with cannot be found.
    """
    named = os.environ.get("GLASSGPT_CACHE")
    try:
        return Path(named).expanduser() if named else Path.home() / ".cache" / "glassgpt"
    except RuntimeError:
        place = f"GLASSGPT_CACHE is {named}" if named else "the cache is in your home folder"
        raise ConfigError(f"{place}, and that home cannot be found; name a folder for it in GLASSGPT_CACHE") from None
