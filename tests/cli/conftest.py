"""The command in a folder with one small text, and in this process."""

import gc
import signal

import pytest
import torch

from glassgpt.cli import main

from ..command import SONG, line_of


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "song.txt").write_text(SONG, encoding="utf-8")
    return tmp_path


@pytest.fixture
def glassgpt_here(folder, monkeypatch, capsys):
    """`glassgpt` in this process, where torch, which takes over a second, is loaded already."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GLASSGPT_CACHE", str(folder / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")  # main would set it, and nobody take it back
    threads, on_terminate = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([*map(str, arguments)])
        return left.value.code, *capsys.readouterr()

    yield run
    gc.unfreeze()  # `plan` sets aside what was alive then
    signal.signal(signal.SIGTERM, on_terminate)
    torch.set_num_threads(threads)


@pytest.fixture
def refused_here(glassgpt_here):
    """`refused` in this process."""
    return lambda *arguments, code=2: line_of(*glassgpt_here(*arguments), code)
