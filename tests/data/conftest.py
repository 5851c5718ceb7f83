import os
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache, or goes to the network."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("GLASSGPT_CACHE", os.fspath(cache))

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    return cache


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("notes/a.txt", "text" or bytes) -> its path, below tmp_path, bytes as given."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file
