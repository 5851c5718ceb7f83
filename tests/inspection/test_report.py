"""What a report and a comparison say, against the files of the runs; and their pages in a real browser, without a network."""

import json
import math
import re

import pytest

from glassgpt.checkpoint import Run, load_checkpoint, load_model
from glassgpt.checkpoint.metrics import smoothed
from glassgpt.config import PRESETS, build_config
from glassgpt.config.schema import FIELDS, shown_name
from glassgpt.data import prepare
from glassgpt.errors import CheckpointError, ConfigError
from glassgpt.inspection import compare_runs, findings, look, render, report_run, run_with_figures, strongest
from glassgpt.inspection.report import MOST_POINTS, MOST_SAMPLES, MOST_VALIDATIONS
from glassgpt.inspection.standing import is_under_way

from ..command import GOLDEN
from .test_look import engine_of, scatter
from .test_page import BROWSER, PROMPT
from .test_page import drawn as drawn_page

RESULT = {
    "task": "text", "val_loss": 2.5, "bits_per_byte": 3.6, "best_val_loss": 2.4, "best_step": 20,
    "baseline_bits_per_byte": 3.1, "steps": 30, "tokens": 1920, "seconds": 7.5, "training_seconds": 6.0,
    "tokens_per_second": 320.0, "parameters": 1234, "environment": {"torch": "2.13.0", "cores": 2},
}  # fmt: skip


def step_line(step, **more):
    return {
        "step": step, "train_loss": 4.0 - 0.05 * step + 0.1 * (step % 2), "learning_rate": 1e-3 * step,
        "grad_norm": 0.5 + 0.01 * step, "tokens": 64 * step, "seconds": 0.2 * step, "tokens_per_second": 300.0 + step,
    } | more  # fmt: skip


def run_of(folder, lines=None, result=RESULT, samples=((0, "xq"), (30, "row your boat")), **settings):
    """A run as training leaves it, but for its checkpoints."""
    folder.mkdir(parents=True)
    run = Run(folder)
    run.write_config(build_config(flags={"data": ("song.txt",), "max_steps": 30, "seed": 5} | settings))
    if lines is None:
        lines = [step_line(step) for step in range(1, 31)]
        lines[20:20] = [{"step": 20, "val_loss": 2.4, "bits_per_byte": 3.5, "best_val_loss": 2.4}]
        lines += [{"step": 30, "val_loss": 2.5, "bits_per_byte": 3.6, "best_val_loss": 2.4}]
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result is not None:
        run.write_result(result)
    run.samples_folder.mkdir()
    for step, text in samples:
        (run.samples_folder / f"step-{step:08d}.txt").write_text(text, encoding="utf-8")
    return run


def embedded(html):
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', html, re.S)
    return json.loads(data)


def test_the_numbers_are_those_of_the_files(tmp_path):
    run = run_of(tmp_path / "a")
    report, lines = report_run(run), run.metrics()
    steps = [line for line in lines if "train_loss" in line]
    assert report["figures"]["train_loss"] == steps[-1]["train_loss"]
    for name in ("steps", "tokens", "seconds", "val_loss", "best_val_loss", "best_step", "bits_per_byte", "parameters"):
        assert report["figures"][name] == RESULT[name], name
    for name in ("step", "tokens", "seconds", "train_loss", "learning_rate", "grad_norm", "tokens_per_second"):
        assert report["curves"][name] == [line[name] for line in steps]
    assert report["curves"]["smoothed"] == pytest.approx(smoothed(report["curves"]["train_loss"]))
    assert report["validation"]["step"] == [20, 30] and report["validation"]["val_loss"] == [2.4, 2.5]
    assert report["validation"]["tokens"] == pytest.approx([64 * 20, 64 * 30])
    assert report["samples"] == [{"step": 0, "text": "xq"}, {"step": 30, "text": "row your boat"}]
    assert dict(report["environment"]) == {"torch": "2.13.0", "cores": "2"}
    assert ("bits_per_byte", "3.6000") in report["rows"] and ("val_loss", "2.5000 nats a token") in report["rows"]
    assert embedded(render("report.html", report)) == json.loads(json.dumps(report))


def test_a_run_under_way_is_as_far_as_its_lines(tmp_path):
    lines = [step_line(1), step_line(9), {"step": 9, "val_loss": 3.0, "bits_per_byte": 4.0, "best_val_loss": 3.0}]
    lines += [step_line(12), {"step": 12, "val_loss": 3.5, "bits_per_byte": 4.5, "best_val_loss": 3.0}, step_line(13)]
    run = run_of(tmp_path / "a", lines, None)
    with run.metrics_file.open("a") as file:
        file.write('{"step": 14, "train_l')  # it is being written, or was cut short
    report = report_run(run)
    assert not report["complete"] and report["environment"] == []
    expected = {
        "steps": 13,
        "tokens": 64 * 13,
        "val_loss": 3.5,
        "best_val_loss": 3.0,
        "best_step": 9,
        "bits_per_byte": 4.5,
    }
    assert expected.items() <= report["figures"].items()
    assert report["figures"]["tokens_per_second"] == pytest.approx(64 / 0.2)
    assert [label for label, _ in report["rows"]].count("time in all") == 0
    assert "newest checkpoint" not in dict(report["rows"])
    for step in (9, 14):
        run.checkpoint_folder(step).mkdir(parents=True)
    assert dict(report_run(run)["rows"])["newest checkpoint"] == "14"  # saved as it stopped, between two logged steps
    state = {"step": 14, "tokens": 64 * 14, "seconds": 7.0}
    (run.checkpoint_folder(14) / "state.json").write_text(json.dumps(state))
    figures = report_run(run)["figures"]
    assert (figures["steps"], figures["tokens"], figures["training_seconds"]) == (14, 64 * 14, 7.0)
    assert figures["tokens_per_second"] == pytest.approx(64 / 0.5) and figures["val_loss"] == 3.5
    before = report_run(run_of(tmp_path / "b", lines[:2], None, samples=()))
    assert before["validation"]["step"] == [] and before["samples"] == []
    assert "val_loss" not in before["figures"] and before["figures"]["train_loss"] == lines[1]["train_loss"]


def test_whether_it_is_being_trained_is_known_by_its_lock(tmp_path):
    run = run_of(tmp_path / "a", result=None)
    assert is_under_way(run) is False and not (run.folder / ".lock").exists()
    with run.locked():
        assert is_under_way(run) is True
        assert report_run(run)["standing"] == "Being trained right now, at step 30 of 30."
    assert is_under_way(run) is False
    (run.folder / ".lock").touch()
    run.samples_folder.rename(run.folder / "elsewhere")
    run.samples_folder.touch()  # nothing can be written to such a run, nor locked
    assert is_under_way(run) is None
    assert "Still being trained, or stopped" in report_run(run)["standing"]


def test_one_line_says_how_far_a_run_is_and_what_can_be_done_with_it(tmp_path):
    run = run_of(tmp_path / "a", [step_line(step) for step in (1, 10, 20)], None)

    def standing():
        report = report_run(run)
        return report["state"], report["standing"]

    resume = f"glassgpt resume {run.folder}"
    state, line = standing()
    assert state == "broken off" and "without a checkpoint" in line and "glassgpt train --config" in line
    run.checkpoint_folder(10).mkdir(parents=True)
    state, line = standing()  # a line of a step that was never saved
    assert state == "broken off" and "at step 20 of 30 or soon after; to go on from step 10" in line
    assert line.endswith(resume)
    run.checkpoint_folder(23).mkdir()
    assert standing() == ("stopped", f"Stopped, and saved at step 23 of 30; to go on from there: {resume}")
    run.checkpoint_folder(30).mkdir()
    assert standing()[0] == "all but complete"
    run.write_config(build_config(flags={"minutes": 2.0}))
    assert standing()[1].startswith("Stopped, and saved at step 30; to")  # nobody knows of how many yet
    run.write_result(RESULT)
    assert standing() == ("complete", "Complete, after 30 steps.")


@pytest.mark.parametrize("kind", ["gpt2", "modern", "chat", "labels", "lora"])
def test_parameters_are_counted_before_the_end(kind):
    run = Run(GOLDEN / kind)
    report = report_run(run)
    model = load_model(load_checkpoint(run.checkpoint_folder(run.steps()[-1])))
    assert not report["complete"] and report["figures"]["parameters"] == sum(p.numel() for p in model.parameters())


def test_what_counting_reaches_is_known_where_the_prepared_text_is_there(tmp_path):
    (tmp_path / "song.txt").write_text("row, row, row your boat\n" * 60)
    meta = prepare([str(tmp_path / "song.txt")], tmp_path / "prepared", tokenizer="char").meta
    run = run_of(tmp_path / "a", result=None, data=(str(tmp_path / "prepared"),))
    run.checkpoint_folder(30).mkdir(parents=True)
    for fingerprint, known in ((meta.fingerprint, meta.baseline_bits_per_byte), ("0" * 64, None)):
        (run.checkpoint_folder(30) / "state.json").write_text(json.dumps({"step": 30, "data_fingerprint": fingerprint}))
        assert report_run(run)["figures"].get("baseline_bits_per_byte") == known


def test_what_is_not_known_is_said(tmp_path):
    run = run_of(tmp_path / "a", result=None)
    assert report_run(run)["unknown"] == ["time in all", "counting n-grams"]
    labels = run_of(tmp_path / "b", result=None, task="labels")
    assert report_run(labels)["unknown"] == ["time in all", "always the commonest label", "parameters"]
    assert report_run(run_of(tmp_path / "c"))["unknown"] == []


def test_steps_that_went_wrong_and_settings_that_changed_are_told(tmp_path):
    broken = step_line(3)
    del broken["train_loss"], broken["grad_norm"]  # JSON knows no nan
    fault = {"step": 3, "skipped": True, "fault": "the loss is nan", "learning_rate": 0.1, "batch": []}
    spike = {"step": 4, "skipped": False, "fault": "the loss leaps", "learning_rate": 0.1, "batch": []}
    lines = [step_line(1), step_line(2), broken, fault, step_line(4), spike]
    lines += [{"step": 4, "changed": {"learning_rate": [0.1, 0.2], "from_": ["", "x"]}}, step_line(5, train_loss=1e400)]
    run = run_of(tmp_path / "a", lines, None)
    report = report_run(run)
    assert report["curves"]["step"] == [1, 2, 3, 4]  # json.dumps wrote Infinity, which no line of figures holds
    assert [loss is None for loss in report["curves"]["train_loss"]] == [False, False, True, False]
    assert report["curves"]["smoothed"][2] is None and report["curves"]["grad_norm"][2] is None
    assert (report["faults"]["count"], report["faults"]["skipped"]) == (2, 1)
    assert report["faults"]["first"][0] == {"step": 3, "skipped": True, "fault": "the loss is nan"}
    assert report["changes"] == [{"step": 5, "settings": [["learning_rate", "0.1", "0.2"], ["from", "", "x"]]}]
    render("report.html", report)


def test_a_long_run_is_thinned_and_no_leap_is_lost(tmp_path):
    lines = [step_line(step, train_loss=2.0 + math.sin(step)) for step in range(1, 3 * MOST_POINTS + 8)]
    lines[3333]["train_loss"], lines[4444]["train_loss"] = 99.0, 0.001
    del lines[5555]["train_loss"]
    report = report_run(run_of(tmp_path / "a", lines, None, samples=[(i, str(i)) for i in range(99)]))
    curves = report["curves"]
    assert MOST_POINTS / 2 < len(curves["step"]) <= MOST_POINTS and report["points"] == len(lines)
    assert curves["step"] == sorted(set(curves["step"])) and curves["step"][0] == 1 and curves["step"][-1] == len(lines)
    assert {3334: 99.0, 4445: 0.001}.items() <= dict(zip(curves["step"], curves["train_loss"], strict=True)).items()
    assert all(len(values) == len(curves["step"]) for values in curves.values())
    written = [sample["step"] for sample in report["samples"]]
    assert len(written) == MOST_SAMPLES and written[0] == 0 and written[-1] == 98 and written == sorted(set(written))


def test_many_validations_are_thinned_and_the_best_is_kept(tmp_path):
    count = 3 * MOST_VALIDATIONS + 7
    lines = [step_line(1)] + [
        {"step": step, "val_loss": 3.0 + math.sin(step), "bits_per_byte": 4.0} for step in range(1, count + 1)
    ]
    lines[333]["val_loss"], lines[444]["val_loss"] = 1.5, 9.0
    report = report_run(run_of(tmp_path / "a", lines, None))
    shown = report["validation"]
    assert MOST_VALIDATIONS / 2 < len(shown["step"]) <= MOST_VALIDATIONS and report["validations"] == count
    assert {333: 1.5, 444: 9.0}.items() <= dict(zip(shown["step"], shown["val_loss"], strict=True)).items()
    assert report["figures"]["best_step"] == 333 and shown["step"][-1] == count
    assert all(len(values) == len(shown["step"]) for values in shown.values())


def test_settings_say_who_asked_for_them_and_what_the_preset_has(tmp_path):
    run = run_of(tmp_path / "a", n_layer=3)
    settings = {s["name"]: s for section in report_run(run)["settings"] for s in section["settings"]}
    assert {name for name, s in settings.items() if s["asked"]} == {"data", "max_steps", "seed", "n_layer"}
    preset = {name: PRESETS["mini"].get(name, field.default) for name, field in FIELDS.items()}
    assert {name for name, s in settings.items() if s["differs"]} == {
        shown_name(name) for name in run.config().in_use() if run.config().flat()[name] != preset[name]
    }
    assert settings["n_layer"]["value"] == "3" and settings["n_layer"]["preset"] == "4"
    assert not settings["n_head"]["differs"] and FIELDS["n_head"].default != preset["n_head"]
    assert settings["data"]["value"] == "song.txt"
    assert [*settings] == [shown_name(name) for name in FIELDS if name in run.config().in_use()]
    run.config_file.write_text(run.config_file.read_text().replace('preset = "mini"', 'preset = "of-old"'))
    of_old = [s for section in report_run(run)["settings"] for s in section["settings"]]
    assert {(s["preset"], s["differs"]) for s in of_old} == {(None, False)}


def test_a_preset_is_not_said_to_have_what_came_with_the_model(tmp_path):
    run = run_of(tmp_path / "a", from_="other", lora=2, dropout=0.25)
    settings = {s["name"]: s for section in report_run(run)["settings"] for s in section["settings"]}
    for name in ("architecture", "n_layer", "tokenizer", "from", "lora"):
        assert settings[name]["preset"] is None and not settings[name]["differs"], name
    assert (settings["dropout"]["preset"], settings["dropout"]["differs"]) == ("0.0", True)  # the recipe says so
    assert settings["seed"]["preset"] == "1337" and settings["lora_alpha"]["value"] == "16.0"


def test_minutes_are_not_shown_as_the_zero_that_they_became(tmp_path):
    def minutes_of(run):
        every = [s for part in report_run(run)["settings"] for s in part["settings"]]
        return next((s for s in every if s["name"] == "minutes"), None)

    run = run_of(tmp_path / "a")
    assert minutes_of(run) is None  # max_steps was asked for
    run.write_config(build_config(preset="char-cpu"))
    assert minutes_of(run) is None  # it has max_steps
    for preset in ("mini", "char-cpu"):
        timed = build_config(preset=preset, flags={"minutes": 2.0})
        run.write_config(timed)
        assert minutes_of(run)["value"] == "2.0"
        run.write_config(timed.resolved(minutes=0.0, max_steps=77))
        assert minutes_of(run)["value"] == "became max_steps"
        assert minutes_of(run)["asked"] and minutes_of(run)["differs"]


def test_exactly_the_settings_that_differ_are_shown(tmp_path):
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", seed=6, n_layer=2), run_of(tmp_path / "c", dropout=0.25)]
    data = compare_runs(runs)
    flat = [run.config().flat() for run in runs]
    expected = {name for name in FIELDS if len({json.dumps(config[name]) for config in flat}) > 1}
    assert {row["name"] for row in data["differ"]} == expected >= {"seed", "n_layer", "dropout"}
    assert data["equal"] == len(runs[0].config().in_use()) - len(expected)
    (seeds,) = [row["values"] for row in data["differ"] if row["name"] == "seed"]
    assert seeds == ["5", "6", "5"]


def test_settings_that_play_no_part_are_left_out(tmp_path):
    run = run_of(tmp_path / "a", bias=False)  # of the modern architecture, which has none anyway
    settings = {s["name"]: s for section in report_run(run)["settings"] for s in section["settings"]}
    assert not settings.keys() & {"qkv_bias", "activation", "n_gram_rows", "residual", "lora_alpha", "minutes"}
    assert (settings["n_kv_head"]["value"], settings["head_dim"]["value"]) == ("2", "64")
    assert settings["bias"]["value"] == "false (plays no part here)" and settings["bias"]["asked"]
    data = compare_runs([run, run_of(tmp_path / "b", architecture="gpt2")])
    differ = {row["name"]: row["values"] for row in data["differ"]}
    assert differ["architecture"] == ["modern", "gpt2"] and differ["rope_theta"] == ["10000.0", None]
    assert differ["bias"] == [None, "true"] and "n_gram" not in differ and "norm_position" not in differ


def slower(lines):
    return [
        line | {"tokens_per_second": line["tokens_per_second"] - 90} if "train_loss" in line else line for line in lines
    ]


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


def labelled(folder, lines=None, accuracy=0.75, fingerprint="0" * 64, **settings):
    """A complete run that learned labels."""
    result = {name: value for name, value in RESULT.items() if "bits" not in name}
    result |= {"task": "labels", "accuracy": accuracy, "baseline_accuracy": 0.5, "data_fingerprint": fingerprint}
    validations = [{"step": s, "val_loss": 0.5, "accuracy": accuracy, "best_val_loss": 0.5} for s in (20, 30)]
    lines = lines or [*(step_line(step) for step in range(1, 31)), *validations]
    return run_of(folder, lines, result, ((0, "bad 60%: a text"),), task="labels", **settings)


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
    with pytest.raises(CheckpointError, match="has no figures yet: metrics.jsonl is empty or gone"):
        run_with_figures(run_of(tmp_path / "a", []).folder)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").touch()
    with pytest.raises(CheckpointError, match="a model without the run that trained it.*instead: glassgpt inspect"):
        run_with_figures(tmp_path / "model")
    b = run_of(tmp_path / "b")
    for runs, said in (([], "none is named"), ([b], "1 is named"), ([b, Run(tmp_path / "a/../b")], "is named twice")):
        with pytest.raises(ConfigError, match=said):
            compare_runs(runs)


def test_findings_are_those_of_look():
    engine = engine_of("gpt2", context_length=64)
    scatter(engine)
    data = look(engine, engine.encode_prompt(PROMPT))
    found = findings(data)
    assert [stage[:2] for stage in found["lens"]] == [row[-1][:2] for row in data["lens"]]
    assert found["loss"] == data["ablation"]["loss"]
    heads = [v for row in data["ablation"]["heads"] for v in row]
    lost = [*heads, *data["ablation"]["attention"], *data["ablation"]["mlp"]]
    assert found["strongest"] and [v for v, _ in found["strongest"]] == sorted(
        (v for v in lost if v >= 0.0005), reverse=True
    )
    assert found["opposed"] and [v for v, _ in found["opposed"]] == sorted(v for v in lost if v <= -0.0005)
    layer = max(range(len(data["ablation"]["mlp"])), key=data["ablation"]["mlp"].__getitem__)
    assert (data["ablation"]["mlp"][layer], f"layer {layer}, MLP") in strongest(data["ablation"], most=99)


HOSTILE = {"samples": ((0, ""), (30, PROMPT)), "n_layer": 2, "text_field": "<b>field"}
# What a person does: take every choice, and go along every curve.
HANDS = """for (const choice of document.querySelectorAll("input")) choice.click();
for (const svg of document.querySelectorAll("svg")) svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
"""


def page(kind, folder):
    a, b = run_of(folder / "b&amp;a", **HOSTILE), run_of(folder / "b", **HOSTILE, seed=6)
    if kind == "compare":
        return render("compare.html", compare_runs([a, b]))
    engine = engine_of("gpt2", context_length=64)
    found = findings(look(engine, engine.encode_prompt(PROMPT)))
    found |= {"checkpoint": "step-00000030", "whose": "the text of --prompt", "command": "glassgpt inspect a"}
    return render("report.html", report_run(a) | {"found": found, "why": ""})


@pytest.mark.parametrize("kind", ["report", "compare"])
def test_a_page_asks_nobody_for_anything_and_holds_no_tag_of_a_sample(tmp_path, kind):
    html = page(kind, tmp_path)
    assert not re.search(r"https?://|src=[^x]|@import|url\(|\{\{", html.replace(PROMPT, ""))
    assert html.count("</script>") == 2 and "<img" not in html
    assert "default-src 'none'" in html and html.startswith("<!doctype html>")


END = 'document.body.dataset.drawn = "yes"'


def drawn(html, folder, hands="", width=800):
    """The page as a browser has it once its script has come to its end and `hands` have done their part."""
    dom = drawn_page(folder, html.replace(END, hands + END), width)
    return dom, re.sub(r"<script.*?</script>", "", dom, flags=re.S)


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("kind", ["report", "compare"])
def test_a_browser_draws_it_and_shows_samples_as_text(tmp_path, kind):
    dom, seen = drawn(page(kind, tmp_path), tmp_path, HANDS)
    assert "<title>GlassGPT: " in dom and "<img" not in dom and "<b>field" not in dom
    assert "&lt;/script&gt;&lt;img src=x onerror=document.title='run'&gt;&lt;b&gt;&amp;amp;</pre>" in seen
    assert seen.count("<path") >= (6 if kind == "report" else 4) and "NaN" not in seen and "Infinity" not in seen
    assert seen.count("<circle") >= 2 and "2.5000" in seen
    assert "b&amp;amp;a" in seen
    if kind == "report":
        assert "&lt;b&gt;field" in seen and "step 30\ntokens_per_second: 330</div>" in seen
    else:
        assert ">seconds in the loop</text>" in seen and ">bits a byte</text>" in seen  # the last choices
        assert "seconds in the loop 6\nb&amp;amp;a: " in seen and "b, val_loss: 3.6</div>" in seen


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("make", [report_run, compare_runs])
def test_a_long_sample_says_that_it_goes_on(tmp_path, make):
    long, short = (
        run_of(tmp_path / name, samples=((30, text),)) for name, text in (("a", "row\n" * 100), ("b", "row"))
    )
    if make is report_run:
        pages = [render("report.html", report_run(run) | {"found": None}) for run in (long, short)]
    else:
        pages = [render("compare.html", compare_runs([long, short]))]
    said = [drawn(html, tmp_path)[0].count('data-more="scroll, there is more below"') for html in pages]
    assert said == ([1, 0] if make is report_run else [1])


# How large the words of each curve are, beside those of the page: at first, and once its place is narrower.
MEASURE = """const measure = name => { document.body.dataset[name] = [...document.querySelectorAll("figure svg")].map(
  svg => (svg.getBoundingClientRect().width / svg.viewBox.baseVal.width).toFixed(2)).join(); };
measure("atFirst");
const wide = document.body.clientWidth;
document.body.style.maxWidth = "18rem";
new ResizeObserver(() => document.body.clientWidth < wide && measure("later")).observe(document.body);
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(("kind", "curves"), [("report", 4), ("compare", 1)])
def test_the_words_of_a_curve_are_no_smaller_on_a_narrow_page(tmp_path, kind, curves):
    html = page(kind, tmp_path)
    for _ in range(5):  # a busy browser may draw no second frame
        dom, _ = drawn(html, tmp_path, MEASURE, width=500)
        if "data-later" in dom:
            break
    for name in ("at-first", "later"):
        (sizes,) = re.findall(f'data-{name}="(.*?)"', dom)
        assert len(sizes.split(",")) == curves and min(map(float, sizes.split(","))) > 0.98, name


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_single_figure_is_said_and_not_drawn(tmp_path):
    lines = [step_line(1), {"step": 1, "val_loss": 0.25, "accuracy": 1.0, "best_val_loss": 0.25}]
    _, seen = drawn(
        render("report.html", report_run(labelled(tmp_path / "a", lines)) | {"found": None, "why": ""}), tmp_path
    )
    assert seen.count("<svg") == 1  # which is a page's own, and not shown
    assert "accuracy: 100 (at step 1; a curve takes two)" in seen and "val_loss: 0.25 (at step 1;" in seen


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(
    ("steps", "names"), [(19, ["train_loss"]), (20, ["train_loss, one batch", "train_loss, smoothed"])]
)
def test_a_loss_of_too_few_points_to_be_smoothed_is_one_curve(tmp_path, steps, names):
    lines = [step_line(step, train_loss=4.0 - step % 2) for step in range(1, steps + 1)]
    _, seen = drawn(
        render("report.html", report_run(run_of(tmp_path / "a", lines)) | {"found": None, "why": ""}), tmp_path
    )
    assert re.findall("<i [^>]*></i>(train_loss[^<]*)<", seen) == names


# What sticks out of a narrow page, and whether a table that goes on beyond its edge shows it there: in its background some
# pictures move along with it, and others stay.
EDGES = """document.body.style.maxWidth = "15rem"; setTimeout(() => {
  const edge = document.body.getBoundingClientRect().right - parseFloat(getComputedStyle(document.body).paddingRight) + 1;
  const all = [...document.querySelectorAll("main *")].filter(one => !one.parentElement.closest(".scroll"));
  document.body.dataset.beyond = all.filter(one => one.getBoundingClientRect().right > edge).map(one => one.tagName).join();
  const wide = [...document.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth);
  document.body.dataset.moves = wide.map(one => new Set(getComputedStyle(one).backgroundAttachment.split(", ")).size).join();
}, 1000);
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("kind", ["report", "compare"])
def test_nothing_sticks_out_of_a_narrow_page_and_a_cut_table_shows_that_it_goes_on(tmp_path, kind):
    dom, _ = drawn(page(kind, tmp_path), tmp_path, EDGES, width=500)
    assert 'data-beyond=""' in dom
    (moves,) = re.findall('data-moves="(.*?)"', dom)
    assert moves and set(moves.split(",")) == {"2"}


# How wide the tiles and the small curves of each row are together, beside their place.
ROWS = """document.body.dataset.rows = [...document.querySelectorAll(".even")].map(box => {
  const rows = Map.groupBy(box.children, one => one.offsetTop), gap = parseFloat(getComputedStyle(box).columnGap);
  const together = row => row.reduce((sum, one) => sum + one.getBoundingClientRect().width + gap, -gap);
  return [...rows.values()].map(row => `${row.length}:${Math.round(together(row) - box.clientWidth)}`).join();
}).join(";");
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(("width", "expected"), [(1280, [[7, 6], [2, 2]]), (600, [[3, 3, 3, 3, 1], [1, 1, 1, 1]])])
def test_tiles_and_curves_stand_in_full_rows(tmp_path, width, expected):
    report = report_run(labelled(tmp_path / "a")) | {"found": None, "why": ""}
    dom, _ = drawn(render("report.html", report), tmp_path, ROWS, width)
    (rows,) = re.findall('data-rows="(.*?)"', dom)
    rows = [[tuple(map(int, row.split(":"))) for row in box.split(",")] for box in rows.split(";")]
    assert [[count for count, _ in box] for box in rows] == expected
    assert all(abs(short) <= 3 for box in rows for _, short in box)


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_page_speaks_of_the_best_only_where_it_is_marked(tmp_path):
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", seed=6)]  # of the same figures
    _, seen = drawn(render("compare.html", compare_runs(runs)), tmp_path)
    assert "Bold and green" not in seen and "n best" not in seen and "A dash" not in seen
    better = run_of(tmp_path / "c", result=RESULT | {"val_loss": 2.1}, architecture="gpt2")
    _, seen = drawn(render("compare.html", compare_runs([runs[0], better])), tmp_path)
    assert "Bold and green" in seen and seen.count("n best") == 1 and "A dash" in seen and "<td>\u2013</td>" in seen
    killed = run_of(tmp_path / "k", [step_line(1)], None)
    killed.checkpoint_folder(0).mkdir(parents=True)
    _, seen = drawn(render("compare.html", compare_runs([runs[0], killed])), tmp_path)
    assert "k: Broken off (killed, or ended by an error) at step 1 of 30" in seen and "Dots: val_loss" in seen
    _, seen = drawn(render("report.html", report_run(killed) | {"found": None, "why": ""}), tmp_path)
    assert "to go on from step 0, which is saved: glassgpt resume" in seen


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_page_of_labels_says_what_labels_are(tmp_path):
    run = labelled(tmp_path / "a", accuracy=1.0)
    _, seen = drawn(render("report.html", report_run(run) | {"found": None, "why": ""}), tmp_path)
    assert ">100</text>" in seen and ">105</text>" not in seen  # per cent
    assert "by itself" not in seen and "what the model said of the first texts" in seen
    assert "Inside the model" not in seen and "inspect" not in seen
    assert "100.0 %" in seen and "n best" not in seen  # one validation is as good as the other


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_the_best_validation_is_marked_once(tmp_path):
    losses = {10: 2.6, 20: 2.4, 30: 2.4}
    lines = [step_line(step) for step in range(1, 31)]
    lines += [{"step": step, "val_loss": loss, "bits_per_byte": 2 * loss} for step, loss in losses.items()]
    report = report_run(run_of(tmp_path / "a", lines)) | {"found": None, "why": ""}
    _, seen = drawn(render("report.html", report), tmp_path)
    assert re.findall(r'<tr><th>(\d+)</th><td class="n best">', seen) == ["20"] == [str(report["figures"]["best_step"])]


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_the_others_are_drawn_in_bits_beside_labels(tmp_path):
    runs = [run_of(tmp_path / "a"), labelled(tmp_path / "l"), run_of(tmp_path / "b", seed=6)]
    html = render("compare.html", compare_runs(runs))
    _, seen = drawn(html, tmp_path)
    assert ">nats a token, of labels a text</text>" in seen and "Left out" not in seen and "l, val_loss" in seen
    _, seen = drawn(html, tmp_path, HANDS)
    assert ">bits a byte</text>" in seen and "l (it tells labels apart)" in seen and "l, val_loss" not in seen
    assert "b, val_loss: 3.6</div>" in seen
    assert "what the model wrote by itself; what the model said of the first texts for validation" in seen
