"""Checkpoints that are written while training goes on."""

import errno
import json
import threading
import time
from pathlib import Path

import pytest
import torch

from glassgpt.checkpoint import commit, load_checkpoint, open_run, verify_checkpoint
from glassgpt.checkpoint.verify import problem_of_best
from glassgpt.disk import DiskError
from glassgpt.errors import GlassError, MachineError, Stopped
from glassgpt.train import Observer, resume_run, saver, train_run, trainer

from .test_run import StopAt, assert_same, final_state


@pytest.fixture
def slow_writer(monkeypatch):
    """Each save takes so many seconds; the list has the thread of each."""
    threads, seconds = [], [0.0]
    real = saver.save_checkpoint

    def save_checkpoint(*some, **more):
        threads.append(threading.current_thread())
        time.sleep(seconds[0])
        real(*some, **more)

    monkeypatch.setattr(saver, "save_checkpoint", save_checkpoint)
    return lambda each: (seconds.__setitem__(0, each), threads)[1]


def failing(monkeypatch, times):
    """The saves after the first one fail so many times."""
    real, saves = saver.save_checkpoint, []

    def save_checkpoint(folder, **more):
        saves.append(folder)
        if 1 < len(saves) <= 1 + times:
            raise MachineError(f"{folder} could not be written")
        real(folder, **more)

    monkeypatch.setattr(saver, "save_checkpoint", save_checkpoint)


RARELY = {"eval_every": 100, "sample_every": 100, "keep_checkpoints": 9}


def test_training_goes_on_while_a_checkpoint_is_written(config, recorder, slow_writer):
    threads = slow_writer(0.5)
    run = train_run(config.with_values(save_every=5, max_steps=14, **RARELY), observers=[recorder])
    events = [(event[0], event[1]) for event in recorder.events if event[0] in ("step", "save")]
    assert events.index(("save", 5)) > events.index(("step", 9))
    assert threads[0] is threading.main_thread() and threads[1] is not threading.main_thread()
    assert all(run.problem_of(step) is None for step in run.steps()) and run.steps() == [0, 5, 10, 14]
    # Of four saves the first, the wait for 5 before 10 is copied, for 10 and for 14 at the end: no step was free.
    assert 1.0 < json.loads(run.result_file.read_text())["checkpoint_seconds"] < 2.5


def test_training_waits_for_the_copy_and_not_for_the_disk(config, monkeypatch, slow_steps, slow_writer):
    """Apart from the first save and the last one, beside which nothing is to be done."""
    real, written = saver.Saver._write, []

    def write(*some):
        before = time.perf_counter()
        real(*some)
        written.append(time.perf_counter() - before)

    monkeypatch.setattr(saver.Saver, "_write", write)
    for module in ("glassgpt.train.saver", "glassgpt.checkpoint.commit"):
        monkeypatch.setattr(f"{module}.sync", lambda path: None)  # how long a disk takes is not known
    slow_writer(0.3)
    slow_steps(0.03)
    run = train_run(config.with_values(save_every=6, max_steps=24, **RARELY))
    first, *between, last = written
    assert len(between) == 3 and sum(between) > 0.9
    waited = json.loads(run.result_file.read_text())["checkpoint_seconds"] - first - last
    assert waited < 0.1 * sum(between)


def test_what_is_saved_is_the_state_of_its_own_step(config, slow_writer):
    whole = train_run(config.with_values(save_every=1, max_steps=8, **RARELY))
    slow_writer(0.05)
    run = train_run(config.with_values(save_every=1, max_steps=8, **RARELY))
    for step in run.steps():
        a, b = load_checkpoint(whole.checkpoint_folder(step)), load_checkpoint(run.checkpoint_folder(step))
        assert all(b.weights()[name].equal(tensor) for name, tensor in a.weights().items())
        assert all(b.optimizer_tensors()[name].equal(tensor) for name, tensor in a.optimizer_tensors().items())
        assert b.optimizer_tensors()["wte.weight/step" if "wte.weight/step" in b.optimizer_tensors() else
                                     "model.embed_tokens.weight/step"] == step  # fmt: skip


def test_where_half_of_the_memory_is_too_little_training_waits_and_nothing_is_copied(config, monkeypatch, slow_writer):
    checkpoint = load_checkpoint(train_run(config).checkpoint_folder(14))
    size = sum(t.nbytes for group in (checkpoint.weights(), checkpoint.optimizer_tensors()) for t in group.values())
    for free, waits in ((2 * size, False), (2 * size - 2, True)):
        threads = slow_writer(0.0)
        threads.clear()
        monkeypatch.setattr(saver, "free_memory", lambda device, free=free: free)
        if waits:
            monkeypatch.setattr(saver, "copied", None)
        train_run(config)
        assert len(threads) > 3 and {thread is threading.main_thread() for thread in threads[1:]} == {waits}


def test_what_the_first_copy_took_is_there_for_the_next(config, monkeypatch, slow_writer):
    """The process may keep freed memory, and what the machine has free does not count that."""
    checkpoint = load_checkpoint(train_run(config).checkpoint_folder(14))
    size = sum(t.nbytes for group in (checkpoint.weights(), checkpoint.optimizer_tensors()) for t in group.values())
    for later, kept, waits in ((size, True, False), (size - 1, True, True), (size, False, True)):
        monkeypatch.setattr(saver, "is_freed_memory_kept", lambda kept=kept: kept)
        threads, free = slow_writer(0.0), iter([2 * size])
        threads.clear()
        monkeypatch.setattr(saver, "free_memory", lambda device, free=free, later=later: next(free, later))
        train_run(config)
        assert threads[1] is not threading.main_thread()
        assert {thread is threading.main_thread() for thread in threads[2:]} == {waits}


@pytest.mark.parametrize("lacking", ["copied", "Thread"])
def test_a_limit_on_this_process_alone_makes_training_wait(config, monkeypatch, slow_writer, lacking):
    """What the machine has free says nothing of it, and neither a copy nor a thread may be had."""

    def fail(*some, **more):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(saver, lacking, fail)
    threads = slow_writer(0.0)
    run = train_run(config)
    assert set(threads) == {threading.main_thread()} and all(run.problem_of(step) is None for step in run.steps())


def test_a_save_that_fails_once_is_said_and_tried_again(config, recorder, monkeypatch, slow_writer):
    """With the state of the moment in which it is known, not when the next one is due; and once, however long it takes."""
    config = config.with_values(save_every=5, max_steps=14, **RARELY)
    whole = train_run(config)
    slow_writer(0.3)
    failing(monkeypatch, 1)
    run = train_run(config, observers=[recorder])
    message = f"{run.checkpoint_folder(5)} could not be written; trying once more"
    assert recorder.of("message").count(("message", message)) == 1
    assert 5 not in run.steps() and set(run.steps()) - set(whole.steps()) <= {6, 7, 8, 9}
    assert len(run.steps()) == len(whole.steps())
    assert_same(whole, run)


@pytest.mark.parametrize("eval_every", [5, 100])
def test_a_name_that_may_not_last_is_a_save_that_failed(config, recorder, monkeypatch, eval_every):
    """The folder is there, but not for certain: then it is not there, and its place is free for the next try."""
    real, failed = commit.sync, []

    def sync(path):
        if path.name == "checkpoints" and (path / "step-00000005").exists() and not failed:
            failed.append(path)
            raise OSError(errno.EIO, "Input/output error")
        real(path)

    monkeypatch.setattr(commit, "sync", sync)
    run = train_run(
        config.with_values(save_every=5, max_steps=14, **RARELY | {"eval_every": eval_every}), observers=[recorder]
    )
    message = f"checkpoint {run.checkpoint_folder(5)} could not be written (Input/output error); trying once more"
    assert ("message", message) in recorder.events and run.result_file.exists()
    assert (5 in run.steps()) == (eval_every == 5) and all(run.problem_of(step) is None for step in run.steps())


def test_memory_that_is_missing_while_it_is_written_is_a_failure_like_another(config, recorder, monkeypatch):
    real, saves = saver.save_checkpoint, []

    def save_checkpoint(folder, **more):
        saves.append(folder)
        if len(saves) == 2:
            raise MemoryError
        real(folder, **more)

    monkeypatch.setattr(saver, "save_checkpoint", save_checkpoint)
    run = train_run(config, observers=[recorder])
    assert ("message", "out of memory for a checkpoint; trying once more") in recorder.events
    assert run.result_file.exists()


@pytest.mark.parametrize("raises", [True, False])
def test_pruning_that_fails_in_any_way_is_told_and_no_more(config, recorder, monkeypatch, raises):
    from glassgpt.checkpoint import Run

    real = Run.prune

    def prune(self, keep):
        if threading.current_thread() is threading.main_thread():
            return real(self, keep)
        if raises:
            raise ValueError("stale")
        return "older checkpoints are not removed (stale); training goes on"

    monkeypatch.setattr(Run, "prune", prune)
    run = train_run(config, observers=[recorder])
    assert ("message", "older checkpoints are not removed (stale); training goes on") in recorder.events
    assert run.result_file.exists()


def test_older_checkpoints_go_while_the_run_goes_on(config):
    class Look(Observer):
        most = 0

        def on_step(self, step, metrics):
            (run,) = Path("runs").iterdir()
            Look.most = max(Look.most, len(open_run(run).steps()))

    train_run(config.with_values(save_every=1, keep_checkpoints=2, max_steps=12), observers=[Look()])
    assert Look.most <= 4  # the newest two, the best, and the one that has just been written


def test_the_metrics_are_on_the_disk_before_the_checkpoint_that_counts_on_them(config, monkeypatch):
    order = []
    real_sync, real_save = saver.sync, saver.save_checkpoint
    monkeypatch.setattr(saver, "sync", lambda path: (order.append(path.name), real_sync(path)))
    monkeypatch.setattr(
        saver, "save_checkpoint", lambda folder, **more: (order.append(folder.name), real_save(folder, **more))
    )
    train_run(config)
    assert order[::2] == ["metrics.jsonl"] * (len(order) // 2) and all(name.startswith("step-") for name in order[1::2])


def test_a_second_failure_ends_the_run_and_resume_goes_on(config, recorder, monkeypatch):
    whole = train_run(config)
    with monkeypatch.context() as patched:
        failing(patched, 2)
        with pytest.raises(
            MachineError, match="step-0000000[5678] could not be written, then go on with: glassgpt resume r$"
        ):
            train_run(config, out="r", observers=[recorder])
    assert sum("trying once more" in text for _, text in recorder.of("message")) == 1
    assert open_run(Path("r")).steps() == [0]
    assert_same(whole, resume_run(open_run(Path("r"))))


def test_the_first_save_has_no_second_chance(config, recorder, monkeypatch):
    def fail(folder, **more):
        raise MachineError("no room")

    monkeypatch.setattr(saver, "save_checkpoint", fail)
    with pytest.raises(MachineError, match="^no room, then go on with"):
        train_run(config, observers=[recorder])
    assert not recorder.of("step") and not recorder.of("message")[-1][1].endswith("trying once more")


def test_a_disk_with_room_for_the_first_checkpoint_only_is_found_before_the_first_step(config, recorder, monkeypatch):
    real = saver.save_checkpoint
    free = iter([10**9])
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": next(free, 1000)}))

    def save_checkpoint(folder, **more):
        real(folder, **more)
        next(free, None)

    monkeypatch.setattr(saver, "save_checkpoint", save_checkpoint)
    with pytest.raises(
        DiskError, match=r"r.checkpoints could not be written .*: [\d,]+ bytes are needed, 1,000 are free"
    ):
        train_run(config, out="r", observers=[recorder])
    assert not recorder.of("step") and open_run(Path("r")).steps() == [0]


def test_the_first_checkpoint_is_as_large_as_the_last(config):
    run = train_run(config.with_values(keep_checkpoints=9))
    sizes = [(run.checkpoint_folder(step) / "optimizer.safetensors").stat().st_size for step in (0, 14)]
    assert sizes[0] == sizes[1]


def test_an_error_elsewhere_waits_for_the_checkpoint_that_is_being_written(config, slow_writer, monkeypatch):
    real = trainer.learning_rate_at

    def fail(step, config):
        if step == 6:
            raise ValueError("elsewhere")
        return real(step, config)

    monkeypatch.setattr(trainer, "learning_rate_at", fail)
    slow_writer(0.4)
    with pytest.raises(ValueError, match="elsewhere"):
        train_run(config.with_values(save_every=5, **RARELY), out="r")
    assert open_run(Path("r")).steps() == [0, 5]


def test_best_is_never_a_step_that_is_not_on_the_disk(config, slow_writer):
    class Look(Observer):
        def on_evaluation(self, step, metrics):
            (run,) = Path("runs").iterdir()
            best = json.loads((run / "checkpoints/best.json").read_text())
            assert verify_checkpoint(run / f"checkpoints/step-{best['step']:08d}") is None

    slow_writer(0.2)
    train_run(config.with_values(max_steps=6, eval_every=2), observers=[Look()])


def test_best_is_that_of_the_step_that_the_run_goes_back_to(config):
    """best.json may be ahead of the last whole checkpoint, and name a step that is better than any so far."""
    config = config.with_values(eval_every=1, keep_checkpoints=99)
    whole = train_run(config)
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[StopAt(9)])
    run = open_run(Path("r"))
    for step in (7, 8, 9):
        (run.checkpoint_folder(step) / "model.safetensors").write_bytes(b"x")
    run.write_best(9, 0.1)
    resumed = resume_run(run)
    assert_same(whole, resumed)


def test_a_weight_that_is_not_finite_is_never_saved(config):
    """However it came about."""
    model = []

    class Poison(Observer):
        def on_step(self, step, metrics):
            if step == 6:
                with torch.no_grad():
                    next(model[0].parameters())[0, 0] = float("inf")

    def sample(trained, data):
        model.append(trained)
        return "x"

    with pytest.raises(
        GlassError, match=r"after step [6-9] the weight .* is not finite, so that nothing was saved; lower"
    ):
        train_run(config.with_values(save_every=1, sample_every=2), out="r", observers=[Poison()], sample=sample)
    run = open_run(Path("r"))
    for step in run.steps():
        assert all(
            tensor.isfinite().all() for tensor in load_checkpoint(run.checkpoint_folder(step)).weights().values()
        )


def test_a_checkpoint_says_how_much_of_the_metrics_is_its_own(config, recorder):
    train_run(config, out="r", observers=[recorder])
    run = open_run(Path("r"))
    run.result_file.unlink()
    run.metrics_file.write_text(run.metrics_file.read_text()[:200])
    resume_run(run, observers=[recorder])
    assert all("step" in json.loads(line) for line in run.metrics_file.read_text().splitlines())
    missing = load_checkpoint(run.checkpoint_folder(14)).state["metrics_bytes"] - 200
    assert any(f"metrics.jsonl has lost lines: it ends {missing:,} bytes" in text for _, text in recorder.of("message"))


def test_damage_beside_the_checkpoints_is_said_and_holds_nobody_back(config, recorder):
    whole = train_run(config)
    with pytest.raises(Stopped):
        train_run(config, out="r", observers=[StopAt(9)])
    run = open_run(Path("r"))
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    assert json.loads(lines[3])["step"] == 4
    # Shorter than it was, so that what follows the checkpoint is nearer than it should be.
    later = [json.dumps({"step": step}) + "\n" for step in range(10, 14)]
    run.metrics_file.write_text("".join([*lines[:3], "garbled\n", *lines[4:], *later]))
    run.best_file.write_text("garbled")
    resume_run(run, observers=[recorder])
    said = [text for _, text in recorder.of("message")]
    assert f"{run.best_file} is garbled; it is written anew" in said
    damaged = "is damaged: line 4 holds no figures; loss.png goes without, training does not need it"
    assert f"{run.metrics_file} {damaged}" in said
    assert problem_of_best(run) is None and run.best() == whole.best()
    assert [line["step"] for line in run.metrics() if "train_loss" in line] == [1, 2, 3, *range(5, 15)]
    assert not any(len(line) == 1 for line in run.metrics())  # nothing of what was made up above
    assert all(final_state(run)[0][name].equal(tensor) for name, tensor in final_state(whole)[0].items())


def test_torch_is_told_nothing_by_a_save(config):
    """Saving draws no random number: the bits are the same however often it happens."""
    a = final_state(train_run(config.with_values(save_every=1)))[0]
    b = final_state(train_run(config.with_values(save_every=14)))[0]
    assert all(torch.equal(a[name], b[name]) for name in a)
