"""Whole runs, in this process: what a run leaves behind, that it can be repeated, stopped and continued."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import glassgpt
from glassgpt.checkpoint import load_checkpoint, open_run
from glassgpt.config import build_config
from glassgpt.errors import CheckpointError, ConfigError, DataError, MachineError, Stopped
from glassgpt.train import Observer, resume_run, train_run
from glassgpt.train.observers import read_metrics


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
    metrics = [{k: v for k, v in line.items() if k not in clocks} for line in read_metrics(run.metrics_file)]
    return tensors, metrics, run.best()


def assert_same(a, b):
    tensors, metrics, best = final_state(a)
    tensors_b, metrics_b, best_b = final_state(b)
    assert tensors.keys() == tensors_b.keys()
    assert all(tensors[name].equal(tensors_b[name]) for name in tensors)
    assert metrics == metrics_b
    assert best == best_b


def test_a_run_leaves_everything_behind(config, recorder):
    run = train_run(config, observers=[recorder], sample=lambda model, tokenizer: tokenizer.decode([1, 2]))
    assert run.folder == Path("runs/words-1")
    result = json.loads(run.result_file.read_text())
    metrics = read_metrics(run.metrics_file)
    assert [line["step"] for line in metrics if "val_loss" in line] == [5, 10, 14]
    assert [line["step"] for line in metrics if "train_loss" in line] == list(range(1, 15))
    assert result["steps"] == 14 and result["tokens"] == 14 * 6 * 11
    assert result["val_loss"] == metrics[-1]["val_loss"] and result["bits_per_byte"] == metrics[-1]["bits_per_byte"]
    assert result["best_val_loss"] == pytest.approx(min(line["val_loss"] for line in metrics if "val_loss" in line))
    assert {"seconds", "tokens_per_second", "parameters", "environment", "baseline_bits_per_byte"} <= result.keys()
    assert (run.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in run.samples_folder.iterdir()) == [
        "step-00000000.txt", "step-00000007.txt", "step-00000014.txt",
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
    losses = [line["train_loss"] for line in read_metrics(run.metrics_file) if "train_loss" in line]
    assert losses[0] > 2.7 and sum(losses[-10:]) / 10 < 2.2


@pytest.mark.parametrize("architecture", ["gpt2", "modern", "textbook"])
def test_a_rerun_from_its_config_file_is_the_same_run(config, architecture):
    inner = {} if architecture != "modern" else {"n_kv_head": 1}
    first = train_run(config.with_values(architecture=architecture, **inner))
    again = train_run(build_config(file=first.config_file))
    assert again.folder != first.folder
    assert_same(first, again)


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


def test_looking_on_changes_nothing(config):
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


def test_minutes_are_kept_and_turned_into_steps(config, recorder):
    began = time.monotonic()
    asked = config.with_values(max_steps=0, minutes=0.15, warmup_steps=10, eval_every=0, save_every=0, sample_every=0)
    run = train_run(asked, observers=[recorder])
    seconds = time.monotonic() - began
    settled = run.config()
    assert settled.train.minutes == 0 and settled.train.max_steps > 20
    assert 3.0 < seconds < 12.0
    assert run.steps()[-1] == settled.train.max_steps == json.loads(run.result_file.read_text())["steps"]
    assert len(recorder.of("plan")) == 1


def test_stopping_before_the_plan_stands_settles_it(config):
    asked = config.with_values(max_steps=0, minutes=5.0, warmup_steps=400, eval_every=0, save_every=0, sample_every=0)
    with pytest.raises(Stopped):
        train_run(asked, out=Path("r"), observers=[StopAt(3)])
    settled = build_config(file=Path("r/config.toml"))
    assert settled.train.minutes == 0 and settled.train.max_steps > 100
    assert open_run(Path("r")).steps() == [3]


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
    Path("killed/result.json").unlink()
    assert_same(whole, resume_run(open_run(Path("killed"))))


def test_resume_passes_over_a_damaged_checkpoint_and_says_so(config, recorder):
    whole = train_run(config)
    with pytest.raises(Stopped):
        train_run(config, out=Path("r"), observers=[StopAt(9)])
    newest = Path("r/checkpoints/step-00000009/model.safetensors")
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    assert_same(whole, resume_run(open_run(Path("r")), observers=[recorder]))
    assert any(
        "step-00000009 is passed over: model.safetensors is not what was written" in str(e) for e in recorder.events
    )


def test_a_complete_run_is_not_resumed(config):
    run = train_run(config)
    with pytest.raises(ConfigError, match="is complete: all 14 steps are done; sample from it instead"):
        resume_run(run)


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
    run = train_run(config.with_values(data=(str(tmp_path / "prepared"),)))
    assert run.config().data.tokenizer == "byte" and run.config().model.vocab_size == 257


def test_a_vocabulary_may_be_padded_but_not_cut(config):
    padded = train_run(config.with_values(vocab_size=32, max_steps=2))
    assert padded.config().model.vocab_size == 32
    assert glassgpt.load_run(padded.folder).generate("see", max_new_tokens=30) is not None
    with pytest.raises(ConfigError, match="vocab_size 7 is smaller than the char tokenizer's 17"):
        train_run(config.with_values(vocab_size=7))


def test_an_existing_out_is_refused_before_any_work(config, recorder):
    Path("there").mkdir()
    with pytest.raises(ConfigError, match="there is already there, and a run is never overwritten"):
        train_run(config, out=Path("there"), observers=[recorder])
    assert recorder.events == [] and list(Path("there").iterdir()) == []


def test_a_context_longer_than_the_text_is_refused_without_leaving_a_run(config):
    with pytest.raises(
        DataError, match="one window of context_length 4000 needs 4001; lower context_length to at most"
    ):
        train_run(config.with_values(context_length=4000))
    assert not Path("runs").exists()


def test_gpt3_is_not_built_by_accident(text):
    config = build_config(preset="gpt3-175b", flags={"data": (str(text),), "tokenizer": "char", "context_length": 64})
    with pytest.raises(MachineError, match=r"training 17\d,\d+,\d+,\d+ parameters needs about 2,\d+ GB, cpu has"):
        train_run(config)
    assert not Path("runs").exists()


def test_a_missing_tokenizer_file_is_named(config):
    with pytest.raises(
        glassgpt.errors.TokenizerError, match="tokenizer 'bqe' is none of char, byte, .*did you mean bpe"
    ):
        train_run(config.with_values(tokenizer="bqe"))


def test_training_on_a_tokenizer_of_another_run(config):
    first = train_run(config)
    file = first.checkpoint_folder(14) / "tokenizer.json"
    second = train_run(config.with_values(tokenizer=str(file)))
    assert second.config().model.vocab_size == 17
    assert_same(first, second)


def test_a_damaged_best_file_is_said_so(config):
    run = train_run(config)
    run.best_file.write_text("{}")
    with pytest.raises(CheckpointError, match=r"best\.json cannot be read; it has to say"):
        glassgpt.load_run(run.folder)
