"""`report` and `compare` as a user meets them."""

import json
import re
import shutil

import pytest

from ..command import GOLDEN, TINY

TRAIN = ["train", "song.txt", *TINY, "--max-steps", 6, "--log-every", 1, "--eval-every", 3]


def data_of(page):
    return json.loads(re.search(r'<script id="data".*?>(.*?)</script>', page.read_text("utf-8"), re.S)[1])


def row_of(out, label):
    """Its words, of all tables that the terminal's width takes."""
    rows = [line.strip().removeprefix(label) for line in out.splitlines() if line.strip().startswith(label)]
    assert rows
    return " ".join(rows).split()


def test_a_run_is_reported(folder, glassgpt_here):
    assert glassgpt_here(*TRAIN)[0] == 0
    code, out, err = glassgpt_here("report")
    assert code == 0, err
    assert "loading the model" in err and "leaving out each part" in err
    run = folder / "runs/song-1"
    result = json.loads((run / "result.json").read_text())
    assert row_of(out, "steps") == ["6"] and row_of(out, "tokens  ") == [f"{result['tokens']:,}"]
    assert row_of(out, "best_val_loss")[0] == f"{result['best_val_loss']:.4f}"
    assert f"looked into step-{result['best_step']:08d} with what the model wrote by itself; in full: glassgpt" in out
    assert out.startswith("song-1: Complete, after 6 steps.\n")
    assert out.endswith("written to report.html: open it in a browser\n")
    data = data_of(folder / "report.html")
    assert data["figures"]["val_loss"] == result["val_loss"] and data["complete"]
    assert dict(data["environment"]) == {name: str(value) for name, value in result["environment"].items()}
    written = {sample["step"]: sample["text"] for sample in data["samples"]}
    assert written[6] == (run / "samples/step-00000006.txt").read_text("utf-8")
    assert data["found"]["checkpoint"] == f"step-{result['best_step']:08d}" and len(data["found"]["tokens"]) > 1
    assert "found" not in glassgpt_here("report", "--no-look")[2] and data_of(folder / "report.html")["found"] is None
    said = []
    for step in (3, 6):
        checkpoint = f"runs/song-1/checkpoints/step-{step:08d}"
        assert glassgpt_here("report", checkpoint, "--prompt", "row your", "--out", "other.html")[0] == 0
        data = data_of(folder / "other.html")
        assert "".join(token["text"] for token in data["found"]["tokens"]) == "row your"
        assert data["found"]["checkpoint"] == f"step-{step:08d}" and data["name"] == "song-1"
        assert data["found"]["whose"] == "the text of --prompt"
        assert data["found"]["command"] == f"glassgpt inspect {checkpoint} --prompt 'row your'"
        said.append(data["found"]["loss"])
    assert said[0] != said[1]  # each by its own weights

    (run / "result.json").unlink()  # as where it was stopped
    code, out, err = glassgpt_here("report", "--no-look")
    assert code == 0 and "song-1: All 6 steps are done and saved, its end" in out, err
    assert "\nnot known, since the run is not complete: time in all\n" in out
    figures = data_of(folder / "report.html")["figures"]
    for name in ("steps", "tokens", "best_step", "baseline_bits_per_byte", "parameters"):
        assert figures[name] == result[name], name
    shutil.rmtree(run / "checkpoints")
    code, out, err = glassgpt_here("report", "runs/song-1")
    assert (
        code == 0
        and "song-1: Broken off at step 6 of 6, and without a checkpoint" in out
        and "not looked into: " in out
    ), err
    assert row_of(out, "steps") == ["6"] and not data_of(folder / "report.html")["complete"]


def test_runs_are_compared(folder, glassgpt_here):
    assert glassgpt_here(*TRAIN, "--out", "a")[0] == 0
    assert glassgpt_here(*TRAIN, "--out", "b", "--seed", 7)[0] == 0
    assert glassgpt_here(*["byte" if word == "char" else word for word in TRAIN], "--out", "c")[0] == 0
    code, out, err = glassgpt_here("compare", "a", "b")
    assert code == 0 and err == "" and "written to compare.html: open it in a browser" in out
    assert row_of(out, "seed") == ["1337", "7"] and "n_layer" not in out and "tokenizers" not in out
    results = [json.loads((folder / name / "result.json").read_text()) for name in "ab"]
    shown = row_of(out, "bits_per_byte")
    best = 0 if results[0]["bits_per_byte"] < results[1]["bits_per_byte"] else 1
    assert shown.index("*") == best and [*filter("*".__ne__, shown)] == [f"{r['bits_per_byte']:.4f}" for r in results]
    data = data_of(folder / "compare.html")
    assert [run["figures"]["val_loss"] for run in data["runs"]] == [r["val_loss"] for r in results]
    assert {row["name"] for row in data["differ"]} == {"seed"}
    code, out, _ = glassgpt_here("compare", "a", "b", "c", "--out", "three.html")
    assert code == 0 and "different tokenizers: val_loss, in nats a token, is not comparable" in out
    assert "*" not in row_of(out, "val_loss, nats a token") and "*" in row_of(out, "bits_per_byte")
    assert (folder / "three.html").exists()
    shutil.copytree(folder / "a", folder / "twin")
    code, out, _ = glassgpt_here("compare", "a", "twin")
    assert code == 0 and "Results\n" in out and "*" not in out and "star" not in out and " settings are equal\n" in out


def test_runs_that_do_not_fit_side_by_side_stand_below_each_other(folder, glassgpt_here):
    shutil.copytree(GOLDEN / "gpt2", folder / "first-of-many")
    for number in range(6):
        shutil.copytree(GOLDEN / "modern", folder / f"run-{number}")
    code, out, _ = glassgpt_here("compare", "first-of-many", *(f"run-{number}" for number in range(6)))
    results = out[: out.index("Settings that differ")]
    assert code == 0 and max(map(len, results.splitlines())) <= 80
    assert len([line for line in results.splitlines() if line.split()[:1] == ["steps"]]) > 1
    parameters = " ".join(line for line in results.splitlines() if "parameters" in line).split()
    assert len([word for word in parameters if word != "parameters"]) == 7  # each in one piece
    assert "-: plays no part in that run" in out


def test_every_kind_of_run_is_reported(folder, glassgpt_here):
    shutil.copytree(GOLDEN, folder / "old")
    for kind in ("chat", "gpt2", "lora", "modern"):
        code, out, err = glassgpt_here("report", f"old/{kind}")
        assert code == 0 and "bits_per_byte" in out, err
        assert data_of(folder / "report.html")["found"]["whose"] == "what the model wrote by itself"
        assert data_of(folder / "report.html")["found"]["command"].startswith(f"glassgpt inspect old/{kind}")
    (folder / "old/chat/samples").mkdir()
    (folder / "old/chat/samples/step-00000002.txt").write_text("row your\nboat")
    assert glassgpt_here("report", "old/chat")[0] == 0
    found = data_of(folder / "report.html")["found"]
    assert found["whose"].startswith("the first conversation for validation") and len(found["tokens"]) > 1
    assert found["command"] == "glassgpt inspect old/chat --prompt TEXT"  # of two lines
    code, out, err = glassgpt_here("report", "old/labels")
    assert code == 0 and "accuracy" in out and "inspect" not in out and "loading" not in err, err
    assert data_of(folder / "report.html")["confusion"]["labels"] == ["rest", "work"]
    code, out, err = glassgpt_here("compare", "old/labels", "old/chat", "old/lora")
    assert code == 0 and "Some of these runs tell labels apart" in out, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare",), "at least two runs, and none is named; name more: RUN RUN"),
        (("compare", "old/gpt2"), "at least two runs, and 1 is named"),
        (("compare", "old/gpt2", "old/gpt2"), "is named twice, and a run does not differ from itself; name it once"),
        (("compare", "old/gpt2", "gone"), "run gone is not there"),
        (
            ("compare", "old/gpt2", "old/modern", "--out", "song.txt"),
            "song.txt exists and is no page of glassgpt compare",
        ),
        (("report",), "there is no run under runs/ yet; train one with: glassgpt train"),
        (
            ("report", "old/lora/parent"),
            "a model without the run that trained it, so that there are no figures to report",
        ),
        (("report", "empty"), "empty has no figures: metrics.jsonl is empty or gone"),
        (("report", "old/gpt2", "--out", "song.txt"), "song.txt exists and is no page of glassgpt report"),
        (("report", "old/gpt2", "--out", "old"), "--out old is a folder; name a file, such as"),
        (("report", "old/gpt2", "--out", "no/r.html"), "in a folder that is not there; make no, or choose another"),
        (("report", "old/gpt2", "--prompt", "€"), "€"),
        (("report", "old/gpt2", "--prompt", ""), "--prompt is empty, and there is nothing to read; give it a text"),
        (("report", "old/gpt2", "--prompt", "", "--no-look"), "--prompt is looked into, and --no-look says not to"),
        (
            ("report", "old/labels", "--prompt", "a text"),
            "tells labels apart and writes no text; use: glassgpt classify",
        ),
        (("report", "old/gpt2", "--device", "abacus"), "device 'abacus' is not known"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line(folder, refused_here, arguments, said):
    shutil.copytree(GOLDEN, folder / "old")
    shutil.copytree(GOLDEN / "gpt2", folder / "empty")
    (folder / "empty/metrics.jsonl").unlink()
    assert said in refused_here(*arguments)
    assert [*folder.glob("*.html")] == []
