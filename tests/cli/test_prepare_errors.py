"""`glassgpt prepare` and the cache's place, as a user meets them: one line each."""

import os
from pathlib import Path

import pytest

from glassgpt.config.cache_folder import cache_folder
from glassgpt.errors import ConfigError

homes = pytest.mark.skipif(os.name == "nt", reason="there any name may be a home")


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
    ],
)
def test_what_is_no_text_is_one_line(folder, glassgpt_here, refused_here, arguments, message):
    (folder / "run").mkdir()
    (folder / "run" / "config.toml").touch()
    (folder / "run" / "metrics.jsonl").touch()
    if "data/song" in arguments:
        assert glassgpt_here("prepare", "song.txt", "--tokenizer", "byte")[0] == 0
    assert message in refused_here(*arguments)


def test_a_place_inside_a_file_is_one_line(refused_here):
    assert "; name a folder elsewhere" in refused_here("prepare", "song.txt", "--out", "song.txt/out", code=1)


@homes
@pytest.mark.parametrize("arguments", [["train", "song.txt"], ["doctor"]])
def test_a_cache_in_a_home_that_does_not_exist_is_one_line(refused_here, monkeypatch, arguments):
    monkeypatch.setenv("GLASSGPT_CACHE", "~nosuchuser/cache")
    line = refused_here(*arguments)
    assert line.startswith("GLASSGPT_CACHE is ~nosuchuser/cache") and "name a folder" in line


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
def test_the_command_that_prepare_recommends_means_the_folder(glassgpt_here, out):
    code, said, err = glassgpt_here("prepare", "song.txt", "--tokenizer", "byte", "--out", f"./{out}")
    assert code == 0, err
    assert said.splitlines()[-1] == f"train on it with: glassgpt train ./{out}"
