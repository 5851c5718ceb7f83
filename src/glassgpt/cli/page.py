"""What the verbs that write a page share."""

from pathlib import Path

from glassgpt.errors import ConfigError

WRITTEN_TOKENS = 40  # by the model itself, where no prompt is given


def page_file(out: Path, verb: str) -> None:
    """Raises ConfigError where there is no plain file, or something else than an earlier page of this verb would be lost."""
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name a file, such as {out / verb}.html")
    if out.exists() and not out.is_file():
        raise ConfigError(f"--out {out} is no plain file, which a page has to be; choose another --out")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out} is in a folder that is not there; make {out.parent}, or choose another --out")
    if out.exists() and f'content="glassgpt {verb}"'.encode() not in beginning(out):
        raise ConfigError(f"{out} exists and is no page of glassgpt {verb}; choose another --out")


def beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(2000)
