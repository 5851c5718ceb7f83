"""What a report of a run says, against the run's files."""

import json
import math
import re
from dataclasses import replace

import pytest

from glassgpt.checkpoint import Run, load_checkpoint, load_model
from glassgpt.checkpoint.metrics import smoothed
from glassgpt.config import PRESETS, build_config
from glassgpt.config.schema import FIELDS, shown_name
from glassgpt.data import prepare
from glassgpt.inspection import compare_runs, findings, look, render, report_run, strongest
from glassgpt.inspection.report import MOST_POINTS, MOST_SAMPLES, MOST_VALIDATIONS
from glassgpt.inspection.standing import is_under_way

from ..command import GOLDEN
from .runs import RESULT, run_of, step_line
from .test_look import engine_of, scatter
from .test_page import PROMPT


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
    assert ("best_bits_per_byte", "3.5000") in report["rows"]
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
        "best_bits_per_byte": 4.0,
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
        known = timed.resolved(minutes=0.0, max_steps=77)
        run.write_config(known)  # as once, when it was not noted how many they had been
        assert minutes_of(run)["value"] == "became max_steps"
        run.write_config(replace(known, minutes_given=2.0))
        assert minutes_of(run)["value"] == "2.0, became max_steps"
        assert minutes_of(run)["asked"] and minutes_of(run)["differs"]
    run.write_config(replace(build_config().resolved(minutes=0.0, max_steps=77), minutes_given=3.1))
    assert minutes_of(run)["value"] == "3.1, became max_steps"
    assert not minutes_of(run)["asked"] and not minutes_of(run)["differs"]  # from what the preset has anyway


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
