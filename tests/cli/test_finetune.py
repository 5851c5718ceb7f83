"""`train --from`, `--lora`, `merge` and `export --to peft` as a user meets them."""

import json
import re

import pytest

import glassgpt

from ..command import SONG, TINY
from ..command import glassgpt as command

ONWARDS = ["--batch-size", "4", "--warmup-steps", "2", "--precision", "float32", "--threads", "1", "--max-steps", "20"]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A folder with a run, runs/song-1, and adapters for it, runs/tune-1."""
    folder = tmp_path_factory.mktemp("family")
    (folder / "song.txt").write_text(SONG, encoding="utf-8")
    (folder / "tune.txt").write_text("the boat goes down, the stream goes on.\n" * 90, encoding="utf-8")
    code, _, err = command(folder, "train", "song.txt", *TINY, "--max-steps", 20)
    assert code == 0, err
    code, _, err = command(
        folder, "train", "tune.txt", "--from", "runs/song-1", "--lora", 2, "--learning-rate", 0.05, *ONWARDS
    )
    assert code == 0, err
    assert "glassgpt sample runs/tune-1" in err.replace("\\", "/")
    return folder


def test_adapters_are_trained_merged_sampled_and_exported(family):
    def greedy(run):
        return "row" + glassgpt.load_run(family / run).generate("row", max_new_tokens=40, temperature=0)

    code, out, err = command(family, "merge", "runs/tune-1", "--out", "whole")
    assert code == 0 and out.endswith("is now in whole; use it: glassgpt sample whole\n"), err
    code, out, err = command(family, "sample", "whole", "--prompt", "row", "--temperature", 0, "--max-new-tokens", 40)
    assert code == 0 and out == greedy("runs/tune-1") + "\n", err
    assert greedy("runs/tune-1") != greedy("runs/song-1")
    code, out, err = command(family, "export", "runs/tune-1", "--to", "peft", "--out", "adapters")
    assert code == 0 and "adapter_model.safetensors" in out, err
    assert json.loads((family / "adapters/adapter_config.json").read_text())["r"] == 2


def test_adapters_are_looked_into_where_they_are(family):
    """What the pages say of a model with adapters is what they say of it with these folded in."""
    for name, run in (("ours", "runs/tune-1"), ("theirs", "folded")):
        if name == "theirs":
            assert command(family, "merge", "runs/tune-1", "--out", "folded")[0] == 0
        for verb in ("inspect", "trace"):
            arguments = ["--pair", "the b|o", "the s|t"] if verb == "inspect" else []
            code, _, err = command(
                family, verb, run, "--prompt", "the boat", "--out", f"{name}-{verb}.html", *arguments
            )
            assert code == 0, err
    assert "class LoRALinear" in (family / "ours-trace.html").read_text("utf-8")
    ours, theirs = (
        json.loads(
            re.findall(r'application/json">(.*?)</script>', (family / f"{name}-inspect.html").read_text("utf-8"))[0]
        )
        for name in ("ours", "theirs")
    )
    for ours_row, theirs_row in zip(
        ours["norms"] + ours["cosine_with_end"], theirs["norms"] + theirs["cosine_with_end"], strict=True
    ):
        assert ours_row == pytest.approx(theirs_row, abs=1e-3)
    for name, row in ours["contributions"].items():
        assert row[0] == pytest.approx(theirs["contributions"][name][0], abs=1e-4)
    assert [n["values"] for n in ours["neurons"]] == [n["values"] for n in theirs["neurons"]]


@pytest.fixture
def folder(family):
    return family


TRAIN = ["train", "tune.txt", *ONWARDS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merge", "runs/song-1", "--out", "x"], "has no adapters to fold in; it is whole as it is"),
        (["merge", "runs/tune-1", "--out", "runs"], "runs is already there, and nothing is overwritten"),
        (["merge", "runs/tune-1"], "--out"),
        (
            ["export", "runs/song-1", "--to", "peft", "--out", "x"],
            "holds whole weights, no adapters; write it with --to",
        ),
        (
            ["export", "runs/tune-1", "--to", "peft", "--out", "runs"],
            "runs is already there, and nothing is overwritten",
        ),
        (["export", "runs/song-1", "--out", "runs"], "runs is already there, and nothing is overwritten"),
        (["export", "runs/song-1", "--to", "gguf", "--out", "x"], "there is no format 'gguf'; there are: huggingface"),
        ([*TRAIN, "--lora", "2"], "lora adapts a model that is there; the setting from says which one"),
        (
            [*TRAIN, "--from", "runs/song-2"],
            "runs/song-2 is not there; in runs there are: song-1, tune-1; pass a model's",
        ),
        (
            [*TRAIN, "--from", "runs/song-1", "--tokenizer", "byte"],
            "tokenizer byte is not the char tokenizer that runs/song-1 was trained with; leave tokenizer out",
        ),
        (
            [*TRAIN, "--from", "runs/song-1", "--context-length", "17"],
            "context_length 17 is longer than runs/song-1's 16",
        ),
        ([*TRAIN, "--from", "runs/song-1", "--n-layer", "3"], "n_layer 3 does not fit runs/song-1, which has 1"),
    ],
)
def test_what_does_not_fit_is_one_line(family, refused_here, arguments, message):
    before = {*family.iterdir(), *family.glob("runs/*")}
    assert message in refused_here(*arguments)
    assert {*family.iterdir(), *family.glob("runs/*")} == before
