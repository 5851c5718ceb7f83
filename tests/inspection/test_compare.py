"""What a comparison of runs says, against the runs' files."""

import json

import pytest

from glassgpt.checkpoint import Run
from glassgpt.config.schema import FIELDS
from glassgpt.errors import CheckpointError, ConfigError
from glassgpt.inspection import compare_runs, report_run, run_with_figures

from .runs import RESULT, labelled, run_of, slower, step_line


def test_exactly_the_settings_that_differ_are_shown(tmp_path):
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", seed=6, n_layer=2), run_of(tmp_path / "c", dropout=0.25)]
    data = compare_runs(runs)
    flat = [run.config().flat() for run in runs]
    expected = {name for name in FIELDS if len({json.dumps(config[name]) for config in flat}) > 1}
    assert {row["name"] for row in data["differ"]} == expected >= {"seed", "n_layer", "dropout"}
    assert data["equal"] == len(runs[0].config().in_use()) - len(expected)
    (seeds,) = [row["values"] for row in data["differ"] if row["name"] == "seed"]
    assert seeds == ["5", "6", "5"]


def test_speed_is_that_of_steps_whatever_stood_between_them(tmp_path):
    steps = [step_line(step) for step in range(1, 31)]
    steps[4]["tokens_per_second"] = 3.0  # a moment's load
    # Validated less, the slower one has done more tokens a second in all.
    runs = [run_of(tmp_path / "a", steps), run_of(tmp_path / "b", slower(steps), RESULT | {"tokens_per_second": 999.0})]
    rows = dict(report_run(runs[0])["rows"])
    assert rows["tokens/s"] == "316" and rows["tokens/s, validations included"] == "320"
    marked = {row["name"]: row["best"] for row in compare_runs(runs)["rows"]}
    assert marked["step_tokens_per_second"] == [0] and marked["tokens_per_second"] == []
    of_old = [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in steps]
    assert "tokens/s" not in dict(report_run(run_of(tmp_path / "old", of_old))["rows"])


def test_the_best_is_marked_where_runs_compare(tmp_path):
    better = RESULT | {"val_loss": 2.1, "best_val_loss": 2.1, "bits_per_byte": 3.2}
    slow = slower(step_line(step) for step in range(1, 31))

    def marked(*runs):
        data = compare_runs(runs)
        return {row["name"]: row["best"] for row in data["rows"] if row["best"]}, data["notes"]

    a, b = run_of(tmp_path / "a"), run_of(tmp_path / "b", slow, better)
    every = {"val_loss": [1], "best_val_loss": [1], "bits_per_byte": [1], "step_tokens_per_second": [0]}
    assert marked(a, b) == (every, [])
    assert marked(a, b, run_of(tmp_path / "c", result=better))[0]["val_loss"] == [1, 2]
    lowest = [step_line(30), {"step": 30, "val_loss": 2.0, "bits_per_byte": 2.9, "best_val_loss": 2.0}]
    assert marked(a, run_of(tmp_path / "low", lowest))[0]["best_bits_per_byte"] == [1]
    elsewhere = run_of(tmp_path / "elsewhere", lowest, RESULT | {"baseline_bits_per_byte": 2.9})
    assert "best_bits_per_byte" not in marked(a, elsewhere)[0]
    other = run_of(tmp_path / "other", result=better, tokenizer="char", vocab_size=65)
    best, notes = marked(a, other)
    assert best == {"bits_per_byte": [1]}
    assert notes == [
        "These runs have different tokenizers: val_loss, in nats a token, is not comparable; bits_per_byte is."
    ]
    assert not compare_runs([a, other])["same_tokens"] and compare_runs([a, b])["same_tokens"]
    best, notes = marked(a, run_of(tmp_path / "text", slow, better | {"baseline_bits_per_byte": 2.9}))
    assert best == {"step_tokens_per_second": [0]} and "different texts" in notes[0] and len(notes) == 1
    a.checkpoint_folder(30).mkdir(parents=True)
    b.checkpoint_folder(30).mkdir(parents=True)
    for run, vocabulary in ((a, "{}"), (b, "{ }")):  # of one kind and size, but not the same
        (run.checkpoint_folder(30) / "tokenizer.json").write_text(vocabulary)
    assert "different tokenizers" in marked(a, b)[1][0]
    assert marked(a, run_of(tmp_path / "young", result=better))[1] == []  # without a checkpoint: the same settings
    assert "different tokenizers" in marked(a, other)[1][0]
    assert "different tokenizers" in marked(a, b, run_of(tmp_path / "younger", result=better))[1][0]


def test_runs_that_write_are_compared_beside_one_that_tells_labels_apart(tmp_path):
    better = RESULT | {"val_loss": 2.1, "bits_per_byte": 3.2}
    runs = [run_of(tmp_path / "a"), labelled(tmp_path / "l"), run_of(tmp_path / "b", result=better)]

    def marked(*runs):
        return {row["name"]: row["best"] for row in compare_runs(runs)["rows"] if row["best"]}

    assert marked(*runs) == {"val_loss": [2], "bits_per_byte": [2]}  # all else is equal; 0.5 nats a text are no less
    data = compare_runs(runs)
    assert data["notes"] == [
        "Some of these runs tell labels apart, others write: the best is marked among those that do the same."
    ]
    assert compare_runs(runs[:2])["notes"] == ["Some of these runs tell labels apart, others write."]  # none is marked
    assert [run["bits_per_nat"] for run in data["runs"]] == [pytest.approx(3.6 / 2.5), None, pytest.approx(3.6 / 2.5)]
    assert "accuracy" not in marked(*runs) and marked(*runs, labelled(tmp_path / "m", accuracy=0.8))["accuracy"] == [3]
    other = run_of(tmp_path / "other", result=better, tokenizer="char", vocab_size=65)
    assert marked(runs[0], runs[1], other) == {"bits_per_byte": [2]}
    notes = compare_runs([runs[0], runs[1], other])["notes"]
    assert notes[1].startswith("Those of these runs that write have different tokenizers")
    assert not compare_runs([runs[0], runs[1], other])["same_tokens"]


def test_the_speed_of_labels_is_compared_where_tokens_are_the_same(tmp_path):
    faster = [step_line(step) | {"tokens_per_second": 900.0} for step in range(1, 31)]
    lines = [*faster, {"step": 30, "val_loss": 0.5, "accuracy": 0.75, "best_val_loss": 0.5}]
    a, b = labelled(tmp_path / "a"), labelled(tmp_path / "b", lines)
    other = labelled(tmp_path / "c", lines, tokenizer="char", vocab_size=65)
    for runs, best, said in (((a, b), [1], False), ((a, other), [], True)):
        data = compare_runs(runs)
        assert {row["name"]: row["best"] for row in data["rows"]}["step_tokens_per_second"] == best
        assert any("tokens/s is not comparable" in note for note in data["notes"]) is said and data["same_tokens"]


def test_labels_that_are_equally_common_do_not_make_texts_the_same(tmp_path):
    a = labelled(tmp_path / "a", data=("here/moods.csv",))
    for name, fingerprint, best in (("moved", "0" * 64, [1]), ("other", "1" * 64, [])):
        b = labelled(tmp_path / name, accuracy=0.8, fingerprint=fingerprint, data=(f"{name}/moods.csv",))
        data = compare_runs([a, b])
        (accuracies,) = [row["best"] for row in data["rows"] if row["name"] == "accuracy"]
        assert accuracies == best and ("different texts" in " ".join(data["notes"])) == (not best)


def test_labels_are_told_apart_in_a_table(tmp_path):
    confusion = {20: [[2, 0], [1, 1]], 30: [[1, 1], [1, 1]]}
    lines = [step_line(step) for step in range(1, 31)]
    lines += [{"step": s, "val_loss": 0.5, "accuracy": 0.5, "confusion": table} for s, table in confusion.items()]
    run = labelled(tmp_path / "a", lines)
    report = report_run(run)
    assert report["confusion"] == {"step": 20, "labels": ["0", "1"], "counts": confusion[20]}  # of the best step
    folder = run.checkpoint_folder(20)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"labels": ["bad", "good"]}))
    assert report_run(run)["confusion"]["labels"] == ["bad", "good"]
    assert ("accuracy", "75.0%") in report["rows"] and ("val_loss", "2.5000 nats a text") in report["rows"]
    (note,) = compare_runs([run, labelled(tmp_path / "c", lines, tokenizer="byte")])["notes"]
    assert "tokens/s is not comparable" in note
    under_way = run_of(tmp_path / "d", [step_line(1)], None, task="labels")
    assert ("train_loss, last logged batch", "4.0500 nats a text") in report_run(under_way)["rows"]


def test_a_result_that_somebody_edited_is_no_traceback(tmp_path):
    runs = [run_of(tmp_path / name, result=RESULT | {"task": [], "data_fingerprint": []}) for name in "ab"]
    assert (
        compare_runs(runs)["notes"] == [] and report_run(runs[0])["rows"] == report_run(run_of(tmp_path / "c"))["rows"]
    )


def test_what_has_no_figures_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="has no figures: .* the run is complete, .* are in result.json$"):
        run_with_figures(run_of(tmp_path / "a", []).folder)
    begun = run_of(tmp_path / "begun", [], None)
    with pytest.raises(CheckpointError, match="has no figures: metrics.jsonl is empty or gone.* glassgpt resume "):
        run_with_figures(begun.folder)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").touch()
    with pytest.raises(CheckpointError, match="a model without the run that trained it.*instead: glassgpt inspect"):
        run_with_figures(tmp_path / "model")
    b = run_of(tmp_path / "b")
    for runs, said in (([], "none is named"), ([b], "1 is named"), ([b, Run(tmp_path / "a/../b")], "is named twice")):
        with pytest.raises(ConfigError, match=said):
            compare_runs(runs)
