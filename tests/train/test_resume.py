"""What may differ when a run goes on, and what has to be said for it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
import torch

from glassgpt.checkpoint import open_run, verify_run
from glassgpt.config import build_config
from glassgpt.config.changes import CHANGEABLE, FIXED, FREE, why_not_changeable
from glassgpt.config.schema import FIELDS
from glassgpt.disk import DiskError, sha256_of, size_of
from glassgpt.errors import CheckpointError, ConfigError, DataError, GlassError, Stopped
from glassgpt.train import Observer, resume_run, train_run
from glassgpt.train.observers import MetricsFile

from .test_run import StopAt, assert_same, final_state


@pytest.fixture
def stopped(config):
    with pytest.raises(Stopped):
        train_run(config.with_values(keep_checkpoints=9), out="r", observers=[StopAt(9)])
    return open_run(Path("r"))


def edit(run, **changes):
    text = run.config_file.read_text()
    for name, value in changes.items():
        text, count = re.subn(f"^{name} = [^#\n]*", f"{name} = {value} ", text, flags=re.M)
        assert count == 1
    run.config_file.write_text(text)


def rewrite(state_file, state):
    """With its sum."""
    state_file.write_text(json.dumps(state))
    manifest = state_file.with_name("manifest.json")
    sums = json.loads(manifest.read_text())
    sums["state.json"] = {"bytes": state_file.stat().st_size, "sha256": sha256_of(state_file)}
    manifest.write_text(json.dumps(sums))


def test_every_setting_is_fixed_or_free_or_has_to_be_said():
    said = {name for name in FIELDS if name not in (*FIXED, *FREE, "minutes")}
    assert {"learning_rate", "max_steps", "schedule", "device", "precision", "on_nonfinite"} <= said <= set(CHANGEABLE)
    assert not set(FIXED) & set(FREE) and not set(FIXED) & set(CHANGEABLE) and {*FIXED, *FREE} <= set(FIELDS)
    assert {"n_layer", "vocab_size", "lora", "from_", "seed", "batch_size", "tokenizer"} <= set(FIXED)


def test_what_is_no_flag_of_resume_says_why():
    assert {name for name in FIELDS if why_not_changeable(name)} == set(FIELDS) - set(CHANGEABLE)
    assert why_not_changeable("run") is None


@pytest.mark.parametrize(
    "name", ["dropout", "context_length", "seed", "batch_size", "n_layer", "tokenizer", "architecture"]
)
def test_what_a_new_run_is_said_to_take_from_this_one_it_takes(config, name):
    """And nothing else: what goes on from its weights has their shape and tokenizer."""
    other = {"dropout": 0.2, "context_length": 9, "seed": 7, "batch_size": 3, "n_layer": 3}
    other |= {"tokenizer": "byte", "architecture": "gpt2"}
    train_run(config.with_values(max_steps=1), out="r")
    flags = {"data": config.data.data, "max_steps": 1, "from_": "r", "threads": 1, name: other[name]}
    again = build_config(flags=flags)
    if "--from RUN" in why_not_changeable(name):
        assert train_run(again).config().flat()[name] == other[name]
    else:
        with pytest.raises(GlassError, match="leave .* out"):
            train_run(again)


def test_every_difference_is_listed(stopped):
    edit(stopped, learning_rate="0.001", max_steps="20", seed="7", n_layer="3")
    listed = (
        "n_layer was 2 and is 3, seed was 1337 and is 7; this cannot change on the way: change it back, or start a new run; "
        "or, if step-00000009 was put there from another run, move that out of r.checkpoints; changed besides: "
        "max_steps was 14 and is 20, learning_rate was 0.003 and is 0.001$"
    )
    with pytest.raises(ConfigError, match=listed):
        resume_run(stopped)
    edit(stopped, seed="1337", n_layer="2")
    with pytest.raises(ConfigError) as refused:
        resume_run(stopped)
    assert str(refused.value) == (
        "r/config.toml is not what step-00000009 was trained with: max_steps was 14 and is 20, learning_rate was 0.003 and is "
        "0.001; change it back, or say that it is meant: glassgpt resume r --max-steps 20 --learning-rate 0.001; or, if that "
        "checkpoint is of another run, move it out of r/checkpoints"
    )
    with pytest.raises(
        ConfigError, match="learning_rate was 0.003 and is 0.001; change .* r --max-steps 20 --learning-rate 0.001; or,"
    ):
        resume_run(stopped, changes={"max_steps": 20})
    assert stopped.config().train.learning_rate == 0.001  # nothing was written
    run = resume_run(stopped, changes={"max_steps": 20, "learning_rate": 0.001})
    assert run.steps()[-1] == 20


def test_what_only_looks_on_may_change_without_a_word(config, stopped):
    edit(stopped, eval_every="3", save_every="2", sample_every="99", log_every="2", keep_checkpoints="5")
    run = resume_run(stopped)
    a, b = final_state(train_run(config))[0], final_state(run)[0]
    assert all(b[name].equal(tensor) for name, tensor in a.items())
    assert not any("changed" in line for line in run.metrics())


def test_a_flag_that_changes_nothing_of_the_result_is_said_as_well(stopped):
    run = resume_run(stopped, changes={"eval_every": 3, "keep_checkpoints": 9})
    assert [line["changed"] for line in run.metrics() if "changed" in line] == [{"eval_every": [5, 3]}]
    assert [line["step"] for line in run.metrics() if "val_loss" in line] == [5, 9, 12, 14]


def test_what_a_flag_changed_is_listed_until_a_checkpoint_knows_it(stopped, recorder):
    with pytest.raises(Stopped):
        resume_run(stopped, changes={"eval_every": 3}, observers=[StopAt(10)])
    shutil.rmtree(stopped.checkpoint_folder(10))
    with pytest.raises(Stopped):
        resume_run(stopped, observers=[StopAt(10), recorder])
    assert recorder.of("change") == [("change", 9, {"eval_every": (5, 3)})]
    before = len(recorder.of("change"))
    resume_run(stopped, observers=[recorder])
    assert len(recorder.of("change")) == before


def test_what_changes_where_nothing_was_saved_yet_is_listed_as_well(stopped, recorder):
    shutil.rmtree(stopped.checkpoints_folder)
    stopped.metrics_file.write_bytes(b"")
    resume_run(stopped, changes={"max_steps": 8}, observers=[recorder])
    assert recorder.of("change") == [("change", 0, {"max_steps": (14, 8)})]


def test_intervals_that_followed_from_the_length_follow_from_a_new_one(config):
    short = config.with_values(eval_every=0, save_every=7, sample_every=0)
    short = replace(short, asked=tuple(name for name in short.asked if name not in ("eval_every", "sample_every")))
    run = train_run(short)
    assert run.config().train.eval_every == 14
    train = resume_run(run, changes={"max_steps": 214}).config().train
    assert 14 < train.eval_every < 150 and train.sample_every < 150 and train.save_every == 7  # begun at step 14
    assert resume_run(run, changes={"max_steps": 215}).config().train.eval_every == 1  # one step is left of it
    edit(run, sample_every="3")
    run.result_file.unlink()
    assert resume_run(run, changes={"max_steps": 215}).config().train.eval_every == 1  # nothing new was said


def test_the_validation_that_was_due_when_a_run_was_killed_is_made_up_for(config):
    """Also where another length, with other intervals, was asked for meanwhile."""

    class Killed(BaseException):
        pass

    class Kill(Observer):
        def on_evaluation(self, step, metrics):
            raise Killed

    short = config.with_values(eval_every=0, sample_every=50)
    with pytest.raises(Killed):
        train_run(replace(short, asked=tuple(n for n in short.asked if n != "eval_every")), out="r", observers=[Kill()])
    run = open_run(Path("r"))
    text = run.metrics_file.read_text()
    run.metrics_file.write_text("".join(line for line in text.splitlines(True) if "val_loss" not in line))
    run.best_file.unlink()
    resume_run(run, changes={"max_steps": 20})
    assert next(line["step"] for line in run.metrics() if "val_loss" in line) == 14


def test_a_change_that_was_said_once_holds_for_the_rest_of_the_run(stopped):
    """Also where the run is killed before its next checkpoint."""
    with pytest.raises(Stopped):
        resume_run(stopped, changes={"learning_rate": 0.001}, observers=[StopAt(11)])
    for step in (10, 11):
        shutil.rmtree(stopped.checkpoint_folder(step))
    assert stopped.last_whole_checkpoint()[0] == stopped.checkpoint_folder(9)
    run = resume_run(stopped)
    changed = [line for line in run.metrics() if "changed" in line]
    assert changed == [{"step": 9, "changed": {"learning_rate": [0.003, 0.001]}}]
    rates = {line["step"]: line["learning_rate"] for line in run.metrics() if "learning_rate" in line}
    assert rates[9] > 2 * rates[10]
    run.result_file.unlink()
    resume_run(run)


def test_a_kill_between_the_settings_and_the_note_of_what_changed_costs_neither(stopped, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(self, step, changes):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(MetricsFile, "on_change", kill)
        for changes in ({"learning_rate": 0.001, "precision": "auto", "threads": 0}, {}, {"beta2": 0.9}):
            with pytest.raises(Killed):
                resume_run(stopped, changes=changes)
    run = resume_run(stopped)
    changed = [line for line in run.metrics() if "changed" in line]
    asked = {"learning_rate": [0.003, 0.001], "beta2": [0.98, 0.9]}
    found = {"precision": ["float32", "bfloat16"], "threads": [1, torch.get_num_threads()]}
    settled = {name: pair for name, pair in found.items() if run.config().flat()[name] != pair[0]}
    assert [line["changed"] for line in changed] == [asked | settled] and changed[0]["step"] == 9
    assert build_config(file=run.config_file).changed == ()  # another run that begins with these settings


OTHER = {
    "max_steps": 16, "micro_batch_size": 3, "learning_rate": 0.001, "warmup_steps": 3, "schedule": "linear", "decay_to": 0.2,
    "weight_decay": 0.3, "beta1": 0.8, "beta2": 0.9, "grad_clip": 0.5, "eval_every": 6, "save_every": 6, "log_every": 2,
    "sample_every": 6, "keep_checkpoints": 3, "gradient_checkpointing": True, "on_nonfinite": "stop", "on_spike": "skip",
    "device": "auto", "precision": "auto", "compile": "auto", "threads": 0, "replicas": 0,
    "matrix_learning_rate": 0.01, "momentum": 0.9,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGEABLE)
def test_what_was_changed_once_needs_no_second_word(stopped, name):
    if name in ("matrix_learning_rate", "momentum"):  # of no use under adamw, which is said before anything is written
        before = stopped.config_file.read_text()
        with pytest.raises(ConfigError, match=f"optimizer adamw has no use for {name}; leave {name} out"):
            resume_run(stopped, changes={name: OTHER[name]})
        assert stopped.config_file.read_text() == before
        return
    with pytest.raises(Stopped):
        resume_run(stopped, changes={name: OTHER[name]}, observers=[StopAt(10)])
    shutil.rmtree(stopped.checkpoint_folder(10))
    run = resume_run(stopped)
    assert run.config().flat()[name] == OTHER[name] or OTHER[name] in ("auto", 0)


def test_a_later_edit_is_not_covered_by_an_earlier_word(stopped):
    with pytest.raises(Stopped):
        resume_run(stopped, changes={"learning_rate": 0.001}, observers=[StopAt(10)])
    shutil.rmtree(stopped.checkpoint_folder(10))
    edit(stopped, learning_rate="0.0005")
    with pytest.raises(ConfigError, match="learning_rate was 0.003 and is 0.0005; change it back, or say"):
        resume_run(stopped)


def test_a_disk_without_room_for_a_checkpoint_is_said_before_the_first_step(stopped, recorder, monkeypatch):
    class Usage:
        free = 1000

    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda path: Usage)
        with pytest.raises(
            DiskError, match=r"r.checkpoints could not be written .*: [\d,]+ bytes are needed, 1,000 are free"
        ):
            resume_run(stopped, observers=[recorder])
    assert not recorder.of("step")
    resume_run(stopped)


def test_a_best_checkpoint_that_is_damaged_is_named_and_put_aside(stopped, recorder):
    """Also where newer ones are whole."""
    best = stopped.checkpoint_folder(stopped.steps()[1])
    stopped.write_best(stopped.steps()[1], 0.5)
    (best / "model.safetensors").write_bytes(b"")
    resume_run(stopped, observers=[recorder])
    (told,) = [text for _, text in recorder.of("message") if "is damaged" in text]
    assert told.startswith(f"{best.name} is damaged: model.safetensors has 0 bytes")
    assert told.endswith(f"kept as damaged-{best.name}")


def test_a_best_checkpoint_that_is_gone_is_no_longer_the_one_to_beat(stopped, recorder, monkeypatch):
    monkeypatch.setattr("glassgpt.train.trainer.evaluate", lambda *_: {"val_loss": 50.0, "bits_per_byte": 9.0})
    assert stopped.best()["step"] == 5
    shutil.rmtree(stopped.checkpoint_folder(5))
    run = resume_run(stopped, observers=[recorder])
    assert ("message", "the best checkpoint, of step 5, can no longer be used; none is best now") in recorder.events
    assert run.best() == {"step": 10, "val_loss": 50.0}


def test_the_last_validation_of_a_run_that_is_trained_on_stays(config, recorder):
    """Also where no interval leads to its step, and where it was the best of all."""
    run = train_run(config.with_values(eval_every=10), out="r")
    before = [line for line in run.metrics() if "val_loss" in line]
    best = run.best()
    assert [line["step"] for line in before] == [10, 14] and best["step"] == 14
    resume_run(run, changes={"max_steps": 25, "learning_rate": 2.0, "keep_checkpoints": 1}, observers=[recorder])
    assert [line for line in run.metrics() if "val_loss" in line][:2] == before
    assert run.best() == best and run.checkpoint_folder(14).is_dir()
    assert not any("best" in text for _, text in recorder.of("message"))


def test_a_validation_that_was_made_is_not_made_again(config, recorder):
    """Where the checkpoint that the run goes on from had been validated, and had become the best."""
    whole = train_run(config, out="whole")
    run = train_run(config.with_values(keep_checkpoints=9), out="r")
    run.result_file.unlink()
    for step in [step for step in run.steps() if step > 10]:
        (run.checkpoint_folder(step) / "model.safetensors").write_bytes(b"")
    resume_run(run, observers=[recorder])
    assert [step for _, step, _ in recorder.of("evaluation")] == [14]
    assert_same(whole, run)
    assert not any("best" in text for _, text in recorder.of("message"))


def test_what_stands_where_a_checkpoint_has_to_is_put_aside(stopped, recorder):
    stopped.checkpoint_folder(12).write_text("hi")
    stopped.checkpoint_folder(14).symlink_to("nowhere")
    resume_run(stopped, observers=[recorder])
    said = [text for _, text in recorder.of("message") if "damaged" in text]
    assert said == [f"step-000000{n} is damaged: it is no folder; kept as damaged-step-000000{n}" for n in (12, 14)]
    assert {12, 14} <= set(stopped.steps())


def test_a_disk_that_will_not_hold_all_that_is_kept_is_said_before_the_first_step(config, recorder, monkeypatch):
    class Usage:
        free = 10**9

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    run = train_run(config.with_values(keep_checkpoints=5), out="r")
    size = size_of(run.checkpoint_folder(run.steps()[-1]))
    Usage.free = int(6.1 * size)
    train_run(config.with_values(keep_checkpoints=5), out="s", observers=[recorder])
    assert not [text for _, text in recorder.of("message") if "full" in text]
    Usage.free = int(5.5 * size)  # those that come later are a little larger
    train_run(config.with_values(keep_checkpoints=5), out="t", observers=[recorder])
    (told,) = [text for _, text in recorder.of("message") if "full" in text]
    assert "the newest 5 checkpoints, the best one" in told and "or keep fewer (--keep-checkpoints 1)" in told
    monkeypatch.setattr(Usage, "free", int(1.1 * size))
    short = config.with_values(keep_checkpoints=5, eval_every=99, save_every=99, sample_every=99)
    train_run(short, out="v", observers=[recorder])
    assert len([text for _, text in recorder.of("message") if "full" in text]) == 1  # one more is all that comes
    assert recorder.events.index(("message", told)) < recorder.events.index(recorder.of("step")[14])


def test_the_time_in_all_is_that_of_all_sittings(config, monkeypatch):
    """Reading the text took ten seconds in the first; the loop of neither was longer for it."""
    real, late = monotonic, [0.0]

    class Reading(Observer):
        def on_prepare(self, stage, share):
            late[0] = 10.0

    monkeypatch.setattr("time.monotonic", lambda: real() + late[0])
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[Reading(), StopAt(9)])
    assert late[0] == 10.0
    state = json.loads((open_run(Path("r")).checkpoint_folder(9) / "state.json").read_text())
    assert state["seconds"] < 5 and 10 <= state["seconds_in_all"] < 15
    with pytest.raises(Stopped):
        resume_run(open_run(Path("r")), observers=[StopAt(12)])
    result = resume_run(open_run(Path("r"))).result()
    assert (
        result["training_seconds"] < 5 and 10 <= result["seconds"] < 15 and result["seconds"] > state["seconds_in_all"]
    )


def test_a_state_of_the_first_versions_has_the_time_of_its_loop(stopped):
    state = stopped.checkpoint_folder(9) / "state.json"
    old = json.loads(state.read_text())
    del old["seconds_in_all"]
    rewrite(state, old | {"seconds": 50.0})
    assert 50 < resume_run(stopped).result()["seconds"] < 60


def test_a_complete_run_is_trained_on(config):
    run = train_run(config, out="r")
    with pytest.raises(Stopped):
        resume_run(run, changes={"max_steps": 17}, observers=[StopAt(15)])
    assert not run.result_file.exists()  # it is complete no more
    longer = resume_run(run)
    assert longer.steps()[-1] == 17 and longer.result_file.exists()
    assert [line["step"] for line in longer.metrics() if "train_loss" in line] == list(range(1, 18))


@pytest.mark.parametrize("every", ["x", None, -5, 0, [5], 0.5])
def test_an_interval_that_is_none_in_a_state_is_passed_over(stopped, every):
    file = stopped.checkpoint_folder(9) / "state.json"
    state = json.loads(file.read_text())
    state["settings"]["eval_every"] = every
    rewrite(file, state)
    assert resume_run(stopped).steps()[-1] == 14


def test_checkpoints_of_another_text_are_told_apart(stopped, text):
    text.write_text(text.read_text()[::-1])
    with pytest.raises(Stopped):
        train_run(stopped.config(), out="other", observers=[StopAt(9)])
    shutil.rmtree(stopped.checkpoint_folder(9))
    shutil.copytree(open_run(Path("other")).checkpoint_folder(9), stopped.checkpoint_folder(9))
    with pytest.raises(
        CheckpointError, match="step-00000009 is of another run than the oldest .* its text is not that of"
    ):
        resume_run(stopped)
    assert {e.path.name: e.problem for e in verify_run(stopped.folder) if e.problem}["step-00000009"].startswith(
        "is of another run: its text is not that of step-0000000"
    )


def test_the_true_best_checkpoint_outlives_a_wrong_line_of_metrics(config):
    run = train_run(config.with_values(keep_checkpoints=1, save_every=1))
    best = run.best()
    run.metrics_file.write_text(
        re.sub(f'("step": {best["step"]}, "val_loss":) [0-9.]+', r"\1 99.0", run.metrics_file.read_text())
    )
    assert any(line.get("val_loss") == 99.0 for line in run.metrics())
    run.write_best(**best)
    assert run.best() == best
    resume_run(run, changes={"max_steps": 18, "learning_rate": 100.0})
    assert best["step"] in run.steps()


@pytest.mark.parametrize("content", ["", "{", "{}", '{"val_loss": "x"}', "[1]"])
def test_a_complete_run_whose_result_is_damaged_completes_again(config, content):
    run = train_run(config)
    before = run.result()
    assert before["task"] == "text" and before["steps"] == 14
    run.result_file.write_text(content)
    assert run.result() is None
    assert [e.problem for e in verify_run(run.folder) if e.path == run.result_file] == ["is garbled"]
    assert resume_run(run).result()["val_loss"] == before["val_loss"]


def test_of_a_complete_run_damage_is_told(config, recorder):
    run = train_run(config)
    run.write_best(run.steps()[0], 0.1)
    (run.checkpoint_folder(run.steps()[0]) / "state.json").unlink()
    resume_run(run, observers=[recorder])
    assert any("is damaged: state.json is missing" in text for _, text in recorder.of("message"))


def test_what_no_resume_takes_is_no_advice(stopped):
    edit(stopped, max_steps="0", minutes="3.0")
    with pytest.raises(ConfigError, match="max_steps was 14 and is 0; change it back; or, if"):
        resume_run(stopped)


def test_fewer_steps_than_are_done_are_refused(stopped):
    with pytest.raises(
        GlassError, match="max_steps 5 is less than the 9 steps that r has done already; leave it out, or"
    ):
        resume_run(stopped, changes={"max_steps": 5})
    edit(stopped, max_steps="5")
    with pytest.raises(
        GlassError, match="r has done already; raise it, or move step-00000009 out of r.checkpoints if it is"
    ):
        resume_run(stopped)


def test_that_all_steps_are_done_may_be_said_again(config):
    run = train_run(config)
    assert resume_run(run, changes={"max_steps": 14}) == run and run.result_file.exists()


def test_a_text_that_is_out_of_sight_is_said_where_to_name(stopped, tmp_path, monkeypatch):
    edit(stopped, data='["words.txt"]')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match="cannot be read from here .*; resume from the folder where it was begun, or name"
    ):
        resume_run(open_run(tmp_path / "r"))


def test_a_checkpoint_of_an_open_length_is_no_change(config, slow_steps, soon_finished):
    """Under `minutes` a checkpoint may be older than the number of steps."""
    asked = config.with_values(
        max_steps=0, minutes=0.08, schedule="linear", warmup_steps=10, save_every=5, sample_every=999
    )
    slow_steps(0.02)
    run = train_run(asked.with_values(eval_every=999, keep_checkpoints=999), out="r")
    early = [step for step in run.steps() if step]
    before_plan = early[0]
    assert before_plan == 5
    for step in early[1:]:
        shutil.rmtree(run.checkpoint_folder(step))
    run.result_file.unlink()
    assert resume_run(run).steps()[-1] == run.config().train.max_steps


def test_a_flag_of_the_wrong_kind_is_refused(stopped):
    with pytest.raises(ConfigError):
        resume_run(stopped, changes={"learning_rate": -1.0})


def test_a_run_that_goes_on_is_the_same_run_from_its_config(config, stopped):
    whole = train_run(config)
    assert_same(whole, resume_run(stopped))
    assert build_config(file=stopped.config_file) == build_config(file=whole.config_file).with_values(
        keep_checkpoints=9
    )


def test_the_flag_to_type_is_one_that_is_understood(stopped):
    edit(stopped, gradient_checkpointing="true")
    with pytest.raises(ConfigError, match="glassgpt resume r --gradient-checkpointing; or, if"):
        resume_run(stopped)


def test_a_number_of_steps_ends_the_search_for_one(config, slow_steps):
    slow_steps(0.05)
    asked = config.with_values(max_steps=0, minutes=1.0, schedule="linear", warmup_steps=90)
    with pytest.raises(Stopped):
        train_run(asked, out="r", observers=[StopAt(5)])
    edit(open_run(Path("r")), minutes="2.0")  # more time is no other run
    run = resume_run(open_run(Path("r")), changes={"max_steps": 9})
    assert run.steps()[-1] == 9 and run.config().train.minutes == 0


def test_a_damaged_cache_is_prepared_anew(config, stopped, tmp_path):
    whole = train_run(config)
    for file in (tmp_path / "cache/data").glob("*/train.bin"):
        file.write_bytes(b"x")
    assert_same(whole, resume_run(stopped))


def test_killed_before_its_settings_were_written_the_folder_can_be_used_again(config):
    Path("r").mkdir()
    Path("r/.lock").touch()
    Path("r/.writing-config.toml").write_text("[mo")
    train_run(config, out="r")
