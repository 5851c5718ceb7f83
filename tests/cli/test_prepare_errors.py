"""`glassgpt prepare` and the cache's place, as a user meets them: one line each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glassgpt.config.cache_folder import cache_folder
from glassgpt.errors import ConfigError

homes = pytest.mark.skipif(os.name == "nt", reason="there any name may be a home")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "song.txt").write_text("row, row, row your boat,\ngently down the stream.\n" * 60, encoding="utf-8")
    return tmp_path


def glassgpt(folder, *arguments, cache="cache"):
    environment = os.environ | {"GLASSGPT_CACHE": cache, "PYTHONUTF8": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "glassgpt", *arguments],
        cwd=folder, env=environment, text=True, encoding="utf-8", capture_output=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", ""], "an empty name is no source"),
        (["train", ""], "an empty name is no source"),
        pytest.param(["prepare", "~nosuchuser/x"], "~nosuchuser/x begins with a home", marks=homes),
        pytest.param(["train", "~nosuchuser/x"], "~nosuchuser/x begins with a home", marks=homes),
        (["prepare", "run"], "run is a run, not text; sample from it or resume it"),
        (["train", "run"], "run is a run, not text; sample from it or resume it"),
        (["train", "data/song", "song.txt"], "is a prepared folder, not text; train on it alone"),
        (["prepare", "data/song", "--out", "other"], "is a prepared folder, not text; train on it alone"),
        (
            ["prepare", "song.txt", "--out", "song.txt/out"],
            "; name a folder elsewhere",
        ),
    ],
)
def test_what_is_no_text_is_one_line(folder, arguments, message):
    (folder / "run").mkdir()
    (folder / "run" / "config.toml").touch()
    (folder / "run" / "metrics.jsonl").touch()
    if "data/song" in arguments:
        assert glassgpt(folder, "prepare", "song.txt", "--tokenizer", "byte").returncode == 0
    done = glassgpt(folder, *arguments)
    assert done.returncode in (1, 2) and done.stdout == "" and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("glassgpt: ") and message in line


@homes
@pytest.mark.parametrize("arguments", [["train", "song.txt"], ["doctor"]])
def test_a_cache_in_a_home_that_does_not_exist_is_one_line(folder, arguments):
    done = glassgpt(folder, *arguments, cache="~nosuchuser/cache")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("glassgpt: GLASSGPT_CACHE is ~nosuchuser/cache") and "name a folder" in line


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    """As in a container that runs under a number for which there is no user."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GLASSGPT_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(ConfigError, match="home cannot be found; name a folder for it in GLASSGPT_CACHE"):
        cache_folder()
    monkeypatch.setenv("GLASSGPT_CACHE", "here")
    assert cache_folder() == Path("here")


@pytest.mark.parametrize("out", ["python", "-"])
def test_the_command_that_prepare_recommends_means_the_folder(folder, out):
    done = glassgpt(folder, "prepare", "song.txt", "--tokenizer", "byte", "--out", f"./{out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"train on it with: glassgpt train ./{out}"
