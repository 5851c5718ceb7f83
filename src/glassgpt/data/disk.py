"""What it takes to be sure of a file: that it is on the disk, and that it is what was written."""

import hashlib
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of entries, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder to sync it
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """In hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
