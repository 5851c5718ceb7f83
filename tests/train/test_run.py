"""Whole runs, in this process: what a run leaves behind, that it can be repeated, stopped and continued."""

import errno
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import glassgpt
from glassgpt.checkpoint import load_checkpoint, open_run, verify_folder
from glassgpt.config import build_config
from glassgpt.errors import CheckpointError, ConfigError, DamageError, DataError, MachineError, Stopped
from glassgpt.train import Observer, resume_run, train_run


class StopAt(Observer):
    """Presses Ctrl-C during a step."""

    def __init__(self, step, number=signal.SIGINT):
        self.step, self.number = step, number

    def on_step(self, step, metrics):
        if step == self.step:
            os.kill(os.getpid(), self.number)


def final_state(run):
    """Everything that a later step would depend on, and the whole history but for clock times."""
    folder = run.checkpoint_folder(run.steps()[-1])
    tensors = {**load_file(folder / "model.safetensors"), **load_file(folder / "optimizer.safetensors")}
    clocks = ("seconds", "tokens_per_second")
    metrics = [{k: v for k, v in line.items() if k not in clocks} for line in run.metrics()]
    return tensors, metrics, run.best()


def assert_same(a, b):
    tensors, metrics, best = final_state(a)
    tensors_b, metrics_b, best_b = final_state(b)
    assert tensors.keys() == tensors_b.keys()
    assert all(tensors[name].equal(tensors_b[name]) for name in tensors)
    assert metrics == metrics_b
    assert best == best_b


def test_a_run_leaves_everything_behind(config, recorder, picture):
    run = train_run(config, observers=[recorder], sample=lambda model, data: data.tokenizer().decode([1, 2]))
    assert run.folder == Path("runs/words-1")
    result = json.loads(run.result_file.read_text())
    metrics = run.metrics()
    assert [line["step"] for line in metrics if "val_loss" in line] == [5, 10, 14]
    assert [line["step"] for line in metrics if "train_loss" in line] == list(range(1, 15))
    assert result["steps"] == 14 and result["tokens"] == 14 * 6 * 11
    assert result["flops_per_second"] > 1e4 and result["mfu"] is None  # no peak of a CPU is known
    assert result["val_loss"] == metrics[-1]["val_loss"] and result["bits_per_byte"] == metrics[-1]["bits_per_byte"]
    assert result["best_val_loss"] == pytest.approx(min(line["val_loss"] for line in metrics if "val_loss" in line))
    assert {"seconds", "tokens_per_second", "parameters", "environment", "baseline_bits_per_byte"} <= result.keys()
    assert (run.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in run.samples_folder.iterdir()) == [
        "step-00000007.txt", "step-00000014.txt",
    ]  # fmt: skip
    # Newest two, and the best one if it is another.
    assert set(run.steps()) == {12, 14} | {run.best()["step"]}
    checkpoint = load_checkpoint(run.checkpoint_folder(14))
    assert checkpoint.state["step"] == 14 and checkpoint.config.vocab_size == 17
    assert checkpoint.tokenizer().decode(checkpoint.tokenizer().encode("glass")) == "glass"
    # Saved before anything that can fail.
    order = [event[0] for event in recorder.events if event[0] in ("save", "evaluation") and event[1] == 5]
    assert order == ["save", "evaluation"]


def test_the_loss_falls(config):
    run = train_run(config.with_values(max_steps=150, eval_every=150, save_every=150, sample_every=150))
    losses = [line["train_loss"] for line in run.metrics() if "train_loss" in line]
    assert losses[0] > 2.7 and sum(losses[-10:]) / 10 < 2.2


@pytest.mark.parametrize("architecture", ["gpt2", "modern", "textbook"])
def test_a_rerun_from_its_config_file_is_the_same_run(config, architecture):
    inner = {} if architecture != "modern" else {"n_kv_head": 1}
    first = train_run(config.with_values(architecture=architecture, **inner))
    again = train_run(build_config(file=first.config_file))
    assert again.folder != first.folder
    assert_same(first, again)


@pytest.mark.parametrize(
    "given",
    [
        {"max_steps": 40},
        {"max_steps": 0, "minutes": 0.06, "warmup_steps": 15},
        {"max_steps": 0, "minutes": 0.06, "warmup_steps": 15, "schedule": "wsd"},
    ],
)
def test_a_rerun_looks_up_where_the_first_run_did(config, slow_steps, soon_finished, given):
    """Intervals that are settled on the way begin after the place where they were."""
    slow_steps(0.06)
    to_be_settled = {"eval_every": 0, "save_every": 0, "sample_every": 0, "micro_batch_size": 6}
    first = train_run(config.with_values(**to_be_settled | given))
    again = train_run(first.config())
    assert again.config() == first.config()
    assert_same(first, again)
    assert sum("val_loss" in line for line in first.metrics()) > 1


@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
@pytest.mark.parametrize("stop", [3, 4, 5, 9])  # at no boundary, at a save, at a validation, between
def test_stopped_and_resumed_is_the_same_run(config, architecture, stop):
    config = config.with_values(architecture=architecture)
    whole = train_run(config, sample=lambda model, tokenizer: "a sample")
    with pytest.raises(
        Stopped, match=rf"stopped after step {stop} of 14, saved; go on with: glassgpt resume"
    ) as stopped:
        train_run(config, out=Path("stopped"), observers=[StopAt(stop)], sample=lambda model, tokenizer: "a sample")
    assert stopped.value.exit_code == 130
    assert not Path("stopped/result.json").exists()
    resumed = resume_run(open_run(Path("stopped")), sample=lambda model, tokenizer: "a sample")
    assert_same(whole, resumed)


def test_a_polite_kill_is_143(config):
    with pytest.raises(Stopped) as stopped:
        train_run(config, observers=[StopAt(2, signal.SIGTERM)])
    assert stopped.value.exit_code == 143


def test_looking_on_leaves_the_same_bits(config):
    plain = train_run(config.with_values(eval_every=14, save_every=14, sample_every=14, log_every=14))
    watched = train_run(
        config.with_values(eval_every=1, save_every=2, sample_every=1), sample=lambda model, tokenizer: "x"
    )
    a, b = (final_state(run)[0] for run in (plain, watched))
    assert all(a[name].equal(b[name]) for name in a)


def test_a_sample_that_fails_does_not_stop_the_run(config, recorder):
    def broken(model, tokenizer):
        raise ConfigError("nothing to say")

    run = train_run(config, observers=[recorder], sample=broken)
    assert ("message", "no sample: nothing to say") in recorder.events
    assert run.result_file.exists()


def test_what_was_decided_is_in_the_config_file(text):
    asked = build_config(
        flags={"data": (str(text),), "tokenizer": "char", "n_layer": 1, "n_head": 2, "n_embd": 8, "context_length": 6,
               "batch_size": 10, "max_steps": 3}
    )  # fmt: skip
    settled = train_run(asked).config()
    assert settled.machine.device == "cpu" and settled.machine.precision in ("float32", "bfloat16")
    assert settled.machine.compile == "off" and settled.machine.threads >= 1
    assert settled.train.micro_batch_size == 10 and settled.model.vocab_size == 17
    assert settled.train.eval_every and settled.train.save_every and settled.train.sample_every


def test_resuming_without_a_checkpoint_begins_again(config):
    whole = train_run(config)
    train_run(config, out=Path("killed"))
    shutil.rmtree("killed/checkpoints")
    Path("killed/metrics.jsonl").write_bytes(b"")
    Path("killed/result.json").unlink()
    assert_same(whole, resume_run(open_run(Path("killed"))))


def damage(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_and_written_again(config, recorder):
    """At a step that is due for saving: the damaged one must neither stay under its name nor stand in the way."""
    config = config.with_values(keep_checkpoints=9)
    whole = train_run(config)
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(9)])
    run = open_run(Path("r"))
    assert run.steps() == [0, 4, 5, 7, 8, 9]
    for step in (8, 9):
        damage(run.checkpoint_folder(step) / "model.safetensors")
    assert_same(whole, resume_run(run, observers=[recorder]))
    assert all(verify_folder(run.checkpoint_folder(step)) is None for step in run.steps())
    assert run.steps() == [0, 4, 5, 7, 8, 10, 12, 14]
    reason = "model.safetensors is not what was written (its sha256 differs)"
    assert ("message", f"step-00000008 is damaged: {reason}; kept as damaged-step-00000008") in recorder.events
    assert verify_folder(run.checkpoints_folder / "damaged-step-00000009") == reason


def test_a_damaged_last_checkpoint_is_written_again(config):
    whole = train_run(config)
    run = train_run(config, out=Path("r"))
    run.result_file.unlink()
    damage(run.checkpoint_folder(14) / "optimizer.safetensors")
    assert_same(whole, resume_run(run))
    assert verify_folder(run.checkpoint_folder(14)) is None


def test_two_processes_never_train_one_run(config):
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(4)])
    run = open_run(Path("r"))
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != ".lock"}
    with run.locked(), pytest.raises(CheckpointError, match="r is being trained by another process right now; wait"):
        resume_run(run)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != ".lock"} == before
    resume_run(run)


def test_a_run_on_standard_input_does_not_wait_for_a_keyboard(config, text, tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(4)])
    file = Path("r/config.toml")
    file.write_text(re.sub("^data = .*$", 'data = ["-"]', file.read_text(), flags=re.M))
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(DataError, match="came from standard input and is no longer in the cache; pipe it in once more"):
        resume_run(open_run(Path("r")))


def test_killed_while_it_draws_a_run_is_not_over_yet(config, monkeypatch):
    class Killed(BaseException):
        pass

    drawn = []

    def plot(metrics, path, baseline, name):
        drawn.append(path)
        if len(drawn) == 1:
            raise Killed

    monkeypatch.setattr("glassgpt.train.plot.plot_losses", plot)
    with pytest.raises(Killed):
        train_run(config, out="r")
    run = open_run(Path("r"))
    assert not run.result_file.exists() and run.steps()[-1] == 14
    assert resume_run(run).result_file.exists() and len(drawn) == 2


def test_a_matplotlib_that_is_broken_costs_the_plot_alone(config, recorder, monkeypatch):
    monkeypatch.setitem(sys.modules, "glassgpt.train.plot", None)
    run = train_run(config, observers=[recorder])
    (said,) = [text for _, text in recorder.of("message") if "loss.png" in text]
    assert "could not be drawn (ModuleNotFoundError" in said and said.endswith("; the run is complete without it")
    assert run.result_file.exists()


def test_a_plot_without_room_costs_the_plot_alone(config, recorder, monkeypatch):
    def full(*some):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("glassgpt.train.plot.plot_losses", full)
    run = train_run(config, observers=[recorder])
    message = (
        f"{run.folder / 'loss.png'} could not be written (No space left on device); the run is complete without it"
    )
    assert ("message", message) in recorder.events and run.result_file.exists()


def test_a_disk_that_is_full_is_one_line_and_leaves_the_earlier_checkpoints(config, recorder, monkeypatch):
    from safetensors import SafetensorError

    from glassgpt.checkpoint import tensors as written

    def save_file(tensors, path, **more):
        if not any(f"step-0000000{step}/" in path.as_posix() for step in (0, 4, 5, 7)) and "optimizer" in path.name:
            path.write_bytes(b"half")
            raise SafetensorError("No space left on device (os error 28)")
        return real(tensors, path, **more)

    real = written.save_file
    monkeypatch.setattr(written, "save_file", save_file)
    full = r"checkpoint r/checkpoints/step-000000(08|09|10) could not be written \(No space left on device\)"
    room = r": [\d,]+ bytes are needed, [\d,]+ are free; make room, then go on with: glassgpt resume r$"
    with pytest.raises(MachineError, match=full + room):
        train_run(config, out=Path("r"), observers=[recorder])
    (told,) = [text for _, text in recorder.of("message") if "could not" in text]
    assert re.fullmatch(full + "; trying once more", told)
    run = open_run(Path("r"))
    assert run.steps() in ([5, 7], [4, 5, 7]) and not [*run.checkpoints_folder.glob(".writing*")]
    monkeypatch.setattr(written, "save_file", real)
    assert_same(train_run(config), resume_run(run))


def test_a_loss_that_explodes_says_where_to_lower_the_rate(config):
    with pytest.raises(glassgpt.errors.GlassError) as caught:
        train_run(config.with_values(learning_rate=999.0, warmup_steps=0, grad_clip=0.0, max_steps=60), out=Path("a b"))
    assert re.fullmatch(
        r"step \d+: the loss is .*, so nothing was changed; learning rate \S+; first not finite: .*; 10 such steps in a row; "
        r"more is in a b.metrics.jsonl; go on more slowly: glassgpt resume ['\"]a b['\"] --learning-rate 0.001; if it is .*",
        str(caught.value),
    )


def test_of_a_complete_run_nothing_is_left_to_do(config, recorder):
    run = train_run(config)
    before = {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")}
    assert resume_run(run, observers=[recorder]) == run
    assert [text for _, text in recorder.of("message")] == [
        f"{run.folder} is complete: all 14 steps are done; to train on, give it a higher --max-steps"
    ]
    with pytest.raises(
        ConfigError, match="is complete: all 14 steps are done; use it, train on with a higher --max-steps, or start"
    ):
        resume_run(run, changes={"learning_rate": 0.1})
    assert {file: file.stat().st_mtime_ns for file in run.folder.rglob("*") if file.name != ".lock"} == {
        file: time for file, time in before.items() if file.name != ".lock"
    }


def test_changed_text_is_refused_on_resume(config, text, tmp_path):
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(4)])
    shutil.rmtree(tmp_path / "cache")
    text.write_text(text.read_text(encoding="utf-8").replace("glass", "grass"), encoding="utf-8")
    with pytest.raises(DataError, match="has changed since this run began; bring the old text back"):
        resume_run(open_run(Path("r")))


def test_resume_survives_a_cleared_cache(config, tmp_path):
    whole = train_run(config.with_values(tokenizer="bpe", vocab_size=4000))  # far more than this text yields
    assert whole.config().model.vocab_size < 600
    with pytest.raises(Stopped):
        train_run(config.with_values(tokenizer="bpe", vocab_size=4000), out=Path("r"), observers=[StopAt(4)])
    shutil.rmtree(tmp_path / "cache")
    assert_same(whole, resume_run(open_run(Path("r"))))


def test_a_prepared_folder_is_trained_on_with_its_own_tokenizer(config, text, tmp_path):
    from glassgpt.data import prepare

    prepare([str(text)], tmp_path / "prepared", "byte")
    flags = {name: config.flat()[name] for name in config.asked if name != "tokenizer"}
    flags |= {"data": str(tmp_path / "prepared")}
    run = train_run(glassgpt.build_config(flags=flags))
    assert run.config().data.tokenizer == "byte" and run.config().model.vocab_size == 257
    train_run(run.config())
    with pytest.raises(ConfigError, match="was prepared with tokenizer byte, not char; leave tokenizer out"):
        train_run(glassgpt.build_config(flags=flags | {"tokenizer": "char"}))


def test_a_vocabulary_may_be_padded_but_not_cut(config):
    padded = train_run(config.with_values(vocab_size=32, max_steps=2))
    assert padded.config().model.vocab_size == 32
    assert glassgpt.load_run(padded.folder).generate("see", max_new_tokens=30) is not None
    with pytest.raises(ConfigError, match="vocab_size 7 is smaller than the char tokenizer's 17"):
        train_run(config.with_values(vocab_size=7))


def test_an_existing_out_is_refused_before_any_work(config, recorder):
    Path("there").mkdir()
    Path("there/file").touch()
    with pytest.raises(ConfigError, match="there is already there, and a run is never overwritten"):
        train_run(config, out=Path("there"), observers=[recorder])
    assert recorder.events == [] and list(Path("there").iterdir()) == [Path("there/file")]


def test_a_context_longer_than_the_text_is_refused_without_leaving_a_run(config):
    with pytest.raises(
        DataError, match="one window of context_length 4000 needs 4001; lower context_length to at most"
    ):
        train_run(config.with_values(context_length=4000))
    assert not Path("runs").exists()


def test_gpt3_is_not_built_by_accident(text):
    config = build_config(preset="gpt3-175b", flags={"data": (str(text),), "tokenizer": "char", "context_length": 64})
    with pytest.raises(
        MachineError, match=r"training 17\d,\d+,\d+,\d+ parameters needs about 2,\d+ GB at micro_batch_size 1, cpu has"
    ):
        train_run(config)
    huge = build_config(preset="baby", flags={"data": (str(text),), "batch_size": 10**6, "micro_batch_size": 10**6})
    with pytest.raises(
        MachineError, match=r"needs about .* GB at micro_batch_size 1000000, .*; lower micro_batch_size"
    ):
        train_run(huge)
    assert not Path("runs").exists()


def test_a_missing_tokenizer_file_is_named(config):
    with pytest.raises(
        glassgpt.errors.TokenizerError, match="tokenizer 'bqe' is none of char, byte, .*did you mean bpe"
    ):
        train_run(config.with_values(tokenizer="bqe"))


@pytest.mark.parametrize("where", ["tokenizer", "data"])
def test_a_vocabulary_that_was_asked_for_beside_a_tokenizer_that_is_there(config, text, tmp_path, where):
    from glassgpt.data import prepare

    prepared = prepare([str(text)], tmp_path / "prepared", "bpe", 270)
    assert prepared.meta.vocab_size == 270
    given = (
        {"tokenizer": str(prepared.path / "tokenizer.json")}
        if where == "tokenizer"
        else {"data": (str(prepared.path),)}
    )
    config = config.with_values(max_steps=1, **({"tokenizer": "bpe"} | given))
    assert train_run(config).config().model.vocab_size == 270
    assert train_run(config.with_values(vocab_size=272)).config().model.vocab_size == 272
    with pytest.raises(ConfigError, match="vocab_size 260 is smaller than the bpe tokenizer's 270; leave it out"):
        train_run(config.with_values(vocab_size=260))


def test_training_on_a_tokenizer_of_another_run(config):
    first = train_run(config)
    file = first.checkpoint_folder(14) / "tokenizer.json"
    second = train_run(config.with_values(tokenizer=str(file)))
    assert second.config().model.vocab_size == 17
    assert_same(first, second)


@pytest.mark.parametrize("content", ["{}", "", "[", '{"step": "x", "val_loss": 1}', None])
def test_what_best_json_says_is_known_without_it(config, content):
    whole = train_run(config)
    best = whole.best()
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(9)])
    run = open_run(Path("r"))
    if content is None:
        run.best_file.unlink()
    else:
        run.best_file.write_text(content)
    validated = [line for line in run.metrics() if "val_loss" in line]
    lowest = min(validated, key=lambda line: line["val_loss"])
    assert run.best() == {"step": lowest["step"], "val_loss": lowest["val_loss"]}
    glassgpt.load_run(run.folder)
    assert_same(whole, resume_run(run))
    assert json.loads(run.best_file.read_text())["step"] == best["step"]


@pytest.mark.parametrize(
    ("setting", "was", "now"),
    [
        ("seed", "1337", "7"),
        ("context_length", "11", "12"),
        ("batch_size", "6", "4"),
        ("tokenizer", '"char"', '"byte"'),
        ("n_layer", "2", "3"),
    ],
)
def test_what_a_run_was_begun_with_cannot_change_on_the_way(config, setting, was, now):
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(9)])
    file = Path("r/config.toml")
    file.write_text(re.sub(f"^{setting} = {re.escape(was)}", f"{setting} = {now}", file.read_text(), flags=re.M))
    shown_now, shown_was = now.replace('"', "'"), was.replace('"', "'")
    message = (
        f"r/config.toml is not what the run was begun with: {setting} was {shown_was} and is {shown_now}; this cannot change "
        "on the way: change it back, or start a new run"
    )
    with pytest.raises(ConfigError, match=message):
        resume_run(open_run(Path("r")))


def test_a_text_that_moved_is_read_anew_and_compared(config, text):
    whole = train_run(config)
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(9)])
    file = Path("r/config.toml")
    text.rename("moved.txt")
    Path("other.txt").write_text("another text " * 300)
    begun = file.read_text()
    file.write_text(re.sub("^data = .*$", 'data = ["other.txt"]', begun, flags=re.M))
    with pytest.raises(DataError, match=r"text or tokenizer of other.txt has changed since this run began"):
        resume_run(open_run(Path("r")))
    file.write_text(re.sub("^data = .*$", 'data = ["moved.txt"]', begun, flags=re.M))
    assert_same(whole, resume_run(open_run(Path("r"))))


@pytest.mark.parametrize("lost", ["weights", "optimizer", "gone", "link"])
def test_where_no_checkpoint_is_whole_nothing_is_begun_again(config, lost):
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(5)])
    run = open_run(Path("r"))
    for step in run.steps():
        if lost == "weights":
            damage(run.checkpoint_folder(step) / "model.safetensors")
        elif lost == "optimizer":
            damage(run.checkpoint_folder(step) / "optimizer.safetensors")
    if lost in ("gone", "link"):
        run.checkpoints_folder.rename("elsewhere")
    if lost == "link":
        run.checkpoints_folder.symlink_to("nowhere")
    before = {path: path.lstat().st_mtime_ns for path in run.folder.rglob("*") if path.name != ".lock"}
    with pytest.raises(
        DamageError, match="r has done 5 steps and has no .*checkpoint.* any more; bring one back, or"
    ) as said:
        resume_run(run)
    assert ("; the weights of step 5 are whole, for --from in a new run" in str(said.value)) == (lost == "optimizer")
    assert {path: path.lstat().st_mtime_ns for path in run.folder.rglob("*") if path.name != ".lock"} == before
    if lost == "gone":
        Path("elsewhere").rename(run.checkpoints_folder)
        assert_same(train_run(config, out="whole"), resume_run(run))
    command = f"glassgpt train --config {run.config_file}"
    assert command in str(said.value)
    assert glassgpt.build_config(file=run.config_file).train.max_steps == 14


def test_a_first_checkpoint_that_is_damaged_costs_no_step(config, recorder):
    whole = train_run(config)
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(1)])
    run = open_run(Path("r"))
    shutil.rmtree(run.checkpoint_folder(1))
    run.metrics_file.write_bytes(b"")
    damage(run.checkpoint_folder(0) / "model.safetensors")
    assert_same(whole, resume_run(run, observers=[recorder]))
    assert ("message", "nothing was saved yet: the run begins again at its first step") in recorder.events


def test_a_run_that_goes_on_decides_nothing_and_does_not_speak_of_it(text, recorder):
    flags = {"data": (str(text),), "tokenizer": "char", "context_length": 16, "n_layer": 1, "n_head": 1, "n_embd": 16}
    config = glassgpt.build_config(flags=flags | {"batch_size": 4, "max_steps": 3, "warmup_steps": 1, "compile": "off"})
    run = train_run(config, out="as-text", observers=[recorder])
    assert any("would be over before a trial had paid" in message for _, message in recorder.of("message"))
    run.result_file.unlink()
    recorder.events.clear()
    resume_run(run, observers=[recorder])
    assert not any("float32" in message for _, message in recorder.of("message"))


def test_a_batch_beyond_all_memory_is_refused(config):
    with pytest.raises(
        MachineError, match=r"a batch of 1,000,000,000 sequences of 11 tokens takes 352 GB, .* lower batch_size"
    ):
        train_run(config.with_values(batch_size=10**9, micro_batch_size=1))


def test_a_warmup_that_outlasts_the_run_is_said_so(config, recorder):
    train_run(config.with_values(max_steps=3, warmup_steps=9), observers=[recorder])
    message = "the warmup of 9 steps is longer than the run of 3: the learning rate never reaches its height"
    assert ("message", message) in recorder.events


def test_the_last_step_is_always_in_the_metrics(config):
    run = train_run(config.with_values(log_every=10, max_steps=13))
    assert [line["step"] for line in run.metrics() if "train_loss" in line] == [1, 10, 13]
