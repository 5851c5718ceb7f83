"""Folders for other programs: written whole or not at all, like ours, but without our manifest."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glassgpt.checkpoint import commit_folder
from glassgpt.disk import DiskError
from glassgpt.signals import unwinding


def write_folder(out: Path, writers: Mapping[str, Callable[[Path], object]], needed: int) -> None:
    """Make the folder `out` of about `needed` bytes, each file written by its function. Raises DiskError where it cannot be;
    nothing of it is left then."""
    try:
        with unwinding():
            commit_folder(out, writers, manifest=False)
    except OSError as error:
        raise DiskError(out, error, needed, about="about ", elsewhere="choose another --out") from None


def write_json(content: Mapping[str, Any]) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
