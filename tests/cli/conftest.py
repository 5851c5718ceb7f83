"""The command in a process of its own, in a folder with one small text."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from glassgpt.cli import main

TINY = [
    "--tokenizer", "char", "--context-length", "16", "--n-layer", "1", "--n-head", "2", "--n-embd", "16",
    "--batch-size", "4", "--warmup-steps", "2", "--precision", "float32", "--threads", "1",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "song.txt").write_text("row, row, row your boat,\ngently down the stream.\n" * 60, encoding="utf-8")
    return tmp_path


def heed_signals():
    """What a shell runs in the background ignores Ctrl-C, and under nohup a closed terminal; so would its children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


if os.name == "nt":
    heed_signals = None


def start(folder, *arguments, environment=None, **more):
    environment = (
        os.environ | {"GLASSGPT_CACHE": str(folder / "cache"), "PYTHONUTF8": "1", "NO_COLOR": "1"} | (environment or {})
    )
    return subprocess.Popen(
        [sys.executable, "-m", "glassgpt", *map(str, arguments)],
        cwd=folder, env=environment, text=True, encoding="utf-8", preexec_fn=more.pop("preexec_fn", heed_signals),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
    )  # fmt: skip


def glassgpt(folder, *arguments, stdin="", environment=None):
    process = start(folder, *arguments, environment=environment)
    out, err = process.communicate(stdin, timeout=120)
    return process.returncode, out, err


def refused(folder, *arguments, code=2):
    """The one line on standard error of a command that is refused."""
    return line_of(*glassgpt(folder, *arguments), code)


def line_of(returned, out, err, code):
    assert returned == code, err
    assert out == ""
    *progress, line = err.splitlines()
    assert line.startswith("glassgpt: ") and not any(piece.startswith(("glassgpt", "Trace")) for piece in progress), err
    return line.removeprefix("glassgpt: ")


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
    signal.signal(signal.SIGTERM, on_terminate)
    torch.set_num_threads(threads)


@pytest.fixture
def refused_here(glassgpt_here):
    """`refused` in this process."""
    return lambda *arguments, code=2: line_of(*glassgpt_here(*arguments), code)
