import errno
import json
import os
from pathlib import Path

import pytest
import torch

from glassgpt.checkpoint import (
    Run,
    check_new_run,
    create_run,
    find_checkpoint,
    load_checkpoint,
    load_model,
    open_run,
    save_checkpoint,
    save_tensors,
    whole_weights,
)
from glassgpt.checkpoint.verify import problem_of_best, problem_of_metrics
from glassgpt.config import GPTConfig, build_config, config_text
from glassgpt.config.load import LATER
from glassgpt.disk import DiskError, as_argument, sha256_of
from glassgpt.errors import CheckpointError, ConfigError, DamageError, MachineError
from glassgpt.model import build_model
from glassgpt.tokenizer import build_tokenizer

SHAPE = GPTConfig(vocab_size=257, context_length=7, n_layer=2, n_head=2, n_embd=12)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def put_checkpoint(run, step, seed=1, shape=SHAPE):
    model = build_model(shape, seed=seed)
    tokenizer = build_tokenizer("byte", lambda: iter(()))
    save_checkpoint(
        run.checkpoint_folder(step),
        config=shape,
        weights=dict(model.named_parameters()),
        optimizer_tensors={"wte.weight/exp_avg": torch.ones(257, 12)},
        tokenizer_json=tokenizer.to_json(),
        state={"step": step, "seconds": 1.5},
    )
    return model


@pytest.fixture
def run():
    made = create_run(None, "text")
    made.write_config(build_config(flags={"max_steps": 10}))
    return made


def test_runs_are_numbered_and_an_existing_one_is_refused(run):
    assert run.folder == Path("runs/text-1")
    assert create_run(None, "text").folder == Path("runs/text-2")
    assert create_run(None, "tex").folder == Path("runs/tex-1")
    Path("runs/text-9").mkdir()
    assert create_run(None, "text").folder == Path("runs/text-10")
    with pytest.raises(ConfigError, match="runs/text-1 is already there, and a run is never overwritten"):
        create_run(Path("runs/text-1"), "x")


def test_a_place_where_no_run_can_be_made_is_named(run):
    Path("file").write_text("in the way")
    with pytest.raises(
        MachineError, match=r"file/run cannot be made: .*file is no folder; choose another place with --out"
    ):
        create_run(Path("file/run"), "x")


def test_a_checkpoint_comes_back_as_it_was(run):
    model = put_checkpoint(run, 4)
    checkpoint = load_checkpoint(run.checkpoint_folder(4))
    assert checkpoint.config == SHAPE and checkpoint.state["step"] == 4
    loaded = load_model(checkpoint)
    assert not loaded.training
    for (name, p), (other, q) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
        assert name == other and p.equal(q)
    assert checkpoint.optimizer_tensors()["wte.weight/exp_avg"].equal(torch.ones(257, 12))
    assert checkpoint.tokenizer().decode([104, 105]) == "hi"


def test_sampling_takes_the_best_and_resuming_the_last(run):
    for step in (3, 6, 9):
        put_checkpoint(run, step)
    assert find_checkpoint(run.folder) == run.checkpoint_folder(9)  # before the first validation
    run.write_best(6, 1.25)
    assert find_checkpoint(run.folder) == run.checkpoint_folder(6)
    assert find_checkpoint(run.checkpoint_folder(3)) == run.checkpoint_folder(3)
    assert run.last_whole_checkpoint() == (run.checkpoint_folder(9), {})


def test_the_newest_run_is_meant_where_none_is_named(run):
    other = create_run(None, "other")
    other.write_config(build_config(flags={"max_steps": 10}))
    os.utime(run.config_file, (1, 1))
    assert open_run(None).folder == other.folder
    os.utime(other.config_file, (0, 0))
    assert open_run(None).folder == run.folder


def test_pruning_keeps_the_newest_and_the_best(run):
    for step in range(1, 7):
        put_checkpoint(run, step)
    run.write_best(2, 1.0)
    run.prune(2)
    assert run.steps() == [2, 5, 6]
    run.prune(1)
    assert run.steps() == [2, 6]


def test_pruning_clears_what_killed_saves_left(run):
    put_checkpoint(run, 1)
    run.write_best(1, 1.0)
    half = run.checkpoints_folder / ".writing-step-00000002"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    (run.checkpoints_folder / ".writing-best.json").write_text("{")
    (run.checkpoints_folder / "notes").mkdir()
    run.prune(2)
    assert sorted(p.name for p in run.checkpoints_folder.iterdir()) == ["best.json", "notes", "step-00000001"]


def test_pruning_never_removes_the_only_good_one(run):
    """Checkpoints may rot after they were written, and then the oldest one is all there is."""
    for step in (3, 6, 9):
        put_checkpoint(run, step)
    for step in (9, 6):
        (run.checkpoint_folder(step) / "state.json").unlink()
    said = "no checkpoint is removed, since none of those that would stay is whole: state.json is missing"
    assert run.prune(1) == run.prune(2) == said and run.steps() == [3, 6, 9]
    put_checkpoint(run, 12)
    assert run.prune(2) is None and run.steps() == [9, 12]
    put_checkpoint(run, 15)
    (run.checkpoint_folder(15) / "state.json").unlink()
    assert run.prune(2) is None and run.steps() == [12, 15]  # one is enough, and need not be the newest


def test_a_checkpoint_under_another_ones_name_is_not_whole(run):
    for step in (3, 6):
        put_checkpoint(run, step)
    run.checkpoint_folder(6).rename("aside")
    run.checkpoint_folder(3).rename(run.checkpoint_folder(6))
    reason = "state.json is of step 3: the folder was renamed, or files of another one were put into it"
    assert run.last_whole_checkpoint() == (None, {run.checkpoint_folder(6): reason})


def test_every_flipped_bit_of_the_manifest_is_noticed(run):
    put_checkpoint(run, 3)
    file = run.checkpoint_folder(3) / "manifest.json"
    written = file.read_bytes()
    for bit in range(8 * len(written)):
        damaged = bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        assert run.problem_of(3) is not None, bit
    file.write_text("{}")
    assert "manifest.json does not name" in run.problem_of(3)
    content = json.loads(written)
    content["../../config.toml"] = content.pop("model.safetensors") | {}
    file.write_text(json.dumps(content | {"model.safetensors": json.loads(written)["model.safetensors"]}))
    assert run.problem_of(3) == "manifest.json names '../../config.toml', which is no file of this folder"
    file.write_bytes(written)
    assert run.problem_of(3) is None


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"]
)
@pytest.mark.parametrize("how", ["flipped", "cut", "missing", "swapped"])
def test_damage_of_any_file_is_named_and_the_checkpoint_before_is_taken(run, name, how):
    for step in (3, 6):
        put_checkpoint(run, step, seed=step)
    file = run.checkpoint_folder(6) / name
    content = bytearray(file.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    elif how == "cut":
        file.write_bytes(content[:-1])
    elif how == "missing":
        file.unlink()
    else:
        other = {"config.json": "state.json"}.get(name, "config.json")
        file.write_bytes((run.checkpoint_folder(6) / other).read_bytes())
    folder, damaged = run.last_whole_checkpoint()
    assert folder == run.checkpoint_folder(3)
    assert name in damaged[run.checkpoint_folder(6)]


def test_a_damaged_newest_checkpoint_is_passed_over_with_its_reason(run):
    for step in (3, 6):
        put_checkpoint(run, step)
    (run.checkpoint_folder(6) / "state.json").unlink()
    folder, damaged = run.last_whole_checkpoint()
    assert folder == run.checkpoint_folder(3)
    assert damaged == {run.checkpoint_folder(6): "state.json is missing"}


def test_what_is_put_aside_is_kept_and_out_of_the_way(run):
    for number in (1, 2):
        put_checkpoint(run, 6, seed=number)
        aside = run.put_aside(run.checkpoint_folder(6))
        assert run.steps() == [] and (aside / "model.safetensors").is_file()
    assert [p.name for p in sorted(run.checkpoints_folder.iterdir())] == [
        "damaged-step-00000006",
        "damaged-step-00000006-2",
    ]


def test_the_only_checkpoint_damaged_is_not_called_missing(run):
    put_checkpoint(run, 6)
    (run.checkpoint_folder(6) / "state.json").unlink()
    named = r"step-00000006 is damaged: state.json is missing; name another checkpoint \(none is whole\)"
    of_run = "no checkpoint of runs/text-1 is whole; of step-00000006, state.json is missing"
    for path, message in ((run.folder, of_run), (run.checkpoint_folder(6), named), (None, of_run)):
        with pytest.raises(CheckpointError, match=message):
            find_checkpoint(path)


def test_a_checkpoint_that_is_named_is_verified(run):
    for step in (3, 6):
        put_checkpoint(run, step)
    file = run.checkpoint_folder(6) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(
        CheckpointError, match=r"is not what was written .*; name another checkpoint \(.*step-00000003\)"
    ):
        find_checkpoint(run.checkpoint_folder(6))


def test_a_checkpoint_stands_for_its_run_and_may_be_carried_away(run, monkeypatch):
    put_checkpoint(run, 3)
    assert open_run(run.checkpoint_folder(3)) == run
    run.checkpoint_folder(3).rename("alone")
    assert find_checkpoint(Path("alone")) == Path("alone")
    with pytest.raises(CheckpointError, match="alone is not a run"):
        open_run(Path("alone"))
    put_checkpoint(run, 4)
    monkeypatch.chdir(run.checkpoints_folder)
    assert open_run(Path("step-00000004")).config_file.is_file()


def test_a_run_is_locked_by_one_at_a_time(run):
    with (
        run.locked(),
        pytest.raises(CheckpointError, match="runs.text-1 is being trained by another process right now"),
        run.locked(),
    ):
        pass
    with run.locked():
        pass


@pytest.mark.skipif(os.name == "nt", reason="locks are others there")
def test_a_lock_file_that_fails_is_no_place_without_locks(run, monkeypatch):
    def flock(handle, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(DiskError, match=r"runs/text-1/.lock could not be written \(Input.output error\)"), run.locked():
        pass


@pytest.mark.skipif(os.name == "nt", reason="locks are others there")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_run_that_cannot_be_locked_is_said_so_and_not_refused(run, monkeypatch, number):
    def flock(handle, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    said = []
    for _ in range(2):  # what the first one left holds nobody back
        with run.locked(said.append):
            pass
    assert [line[:60] for line in said] == 2 * ["runs/text-1 is where nothing can be locked: another process "]


def test_pruning_that_fails_is_told_and_not_fatal(run, monkeypatch):
    for step in range(1, 4):
        put_checkpoint(run, step)

    def busy(folder):
        raise PermissionError(13, "used by another process", str(folder))

    monkeypatch.setattr("glassgpt.checkpoint.run.remove_folder", busy)
    assert run.prune(2).endswith("step-00000001 could not be removed (used by another process); training goes on")
    monkeypatch.setattr("glassgpt.checkpoint.run.clear_unfinished", busy)
    assert run.prune(2).endswith("checkpoints could not be removed (used by another process); training goes on")
    monkeypatch.undo()


def test_a_new_runs_place_is_checked_before_any_work(tmp_path):
    Path("runs").symlink_to(tmp_path / "nowhere")
    for attempt in (check_new_run, lambda folder: create_run(folder, "x")):
        with pytest.raises(
            MachineError, match="runs cannot be made: .*runs is no folder; choose another place with --out"
        ):
            attempt(None)
    check_new_run(Path("deep/er/run"))
    assert not Path("deep").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="who may write everywhere")
def test_a_place_that_cannot_be_written_to_is_named():
    Path("closed").mkdir(mode=0o500)
    with pytest.raises(MachineError, match="closed/run cannot be made: .*closed cannot be written to; choose another"):
        check_new_run(Path("closed/run"))


@pytest.mark.skipif(os.name == "nt", reason="the quotes of another shell")
def test_a_path_is_shown_as_a_shell_takes_it():
    assert as_argument(Path("runs/text-1")) == "runs/text-1"
    assert as_argument(Path("my runs/it's")) == """'my runs/it'"'"'s'"""


def test_a_damaged_best_checkpoint_is_passed_over_and_said_so(run):
    for step in (3, 6, 9):
        put_checkpoint(run, step)
    run.write_best(3, 1.0)
    lines = []
    assert find_checkpoint(run.folder, lines.append) == run.checkpoint_folder(3) and not lines
    (run.checkpoint_folder(3) / "model.safetensors").write_bytes(b"x")
    (run.checkpoint_folder(9) / "config.json").unlink()
    assert find_checkpoint(run.folder, lines.append) == run.checkpoint_folder(6)
    (line,) = lines
    assert line.startswith("runs/text-1/checkpoints/step-00000003 is damaged: model.safetensors has 1 bytes instead of")
    assert line.endswith("; taking runs/text-1/checkpoints/step-00000006 instead")
    with pytest.warns(UserWarning, match="taking runs/text-1/checkpoints/step-00000006 instead"):
        find_checkpoint(run.folder)
    (run.checkpoint_folder(6) / "model.safetensors").write_bytes(b"x")
    with pytest.raises(
        CheckpointError, match="no checkpoint of runs/text-1 is whole; of step-00000003, model.safetensors"
    ):
        find_checkpoint(run.folder)
    with pytest.raises(
        CheckpointError, match=r"step-00000006 is damaged: .*; name another checkpoint \(none is whole\)"
    ):
        find_checkpoint(run.checkpoint_folder(6))


def test_sampling_does_not_need_the_optimizer(run):
    put_checkpoint(run, 3)
    (run.checkpoint_folder(3) / "optimizer.safetensors").write_bytes(b"x")
    assert find_checkpoint(run.folder) == find_checkpoint(run.checkpoint_folder(3)) == run.checkpoint_folder(3)


def test_checkpoints_without_their_config_file_are_pointed_at(run):
    put_checkpoint(run, 3)
    run.config_file.unlink()
    with pytest.raises(CheckpointError, match=r"no config.toml; it holds checkpoints: name one \(.*step-00000003\)"):
        find_checkpoint(run.checkpoints_folder)
    with pytest.raises(CheckpointError, match=r"no config.toml any more.*glassgpt sample runs/text-1/.*step-00000003"):
        find_checkpoint(run.folder)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda text: "", "config.toml is empty"),
        (lambda text: text[: text.index("[train]")], "config.toml is not whole: it lacks seed, max_steps and 2"),
        (
            lambda text: text[: text.index("compile = ")],
            "config.toml is not whole: it lacks compile, threads, and a run's",
        ),
        (lambda text: text[: text.index('= "wsd"')], "config.toml is not TOML: Expected '='"),
        (lambda text: text.encode().replace(b"wsd", b"w\xffd"), "config.toml is no text in UTF-8"),
    ],
)
def test_settings_that_are_not_whole_are_said_so_and_what_to_do(run, cut, message):
    text = cut(run.config_file.read_text())
    run.config_file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DamageError, match=f"{message}.*; bring back the one .* nothing was saved here yet, delete the"):
        run.config()
    put_checkpoint(run, 3)
    with pytest.raises(
        DamageError, match=f"{message}.*; bring back the one .* glassgpt train TEXT --from runs/text-1$"
    ):
        run.config()


def test_settings_of_the_first_version_are_whole(run):
    kept = [line for line in config_text(build_config()).splitlines() if line.split(" ")[0] not in {*LATER, "from"}]
    run.config_file.write_text("\n".join(kept))
    assert len(kept) == len(config_text(build_config()).splitlines()) - len(LATER)
    assert run.config().train.seed == 1337


def test_an_empty_folder_may_become_a_run():
    Path("empty").mkdir()
    assert create_run(Path("empty"), "x").folder == Path("empty")
    Path("empty/file").touch()
    with pytest.raises(ConfigError, match="empty is already there"):
        create_run(Path("empty"), "x")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "there is no run under runs/ yet; train one with: glassgpt train"),
        ("nowhere", "run nowhere is not there; there is none under runs/ yet"),
        ("empty", "empty is not a run: it has no config.toml; nothing was saved in it; .*: glassgpt train --out empty"),
        ("text.txt", "text.txt is not a run, nor a checkpoint, which are folders; there is none under runs/ yet"),
        ("notes", "notes is not a run: it has no config.toml; there is none under runs/ yet"),
    ],
)
def test_what_is_no_run_is_said_so(path, message):
    Path("empty").mkdir()
    Path("notes").mkdir()
    for file in ("text.txt", "notes/a.txt"):
        Path(file).touch()
    with pytest.raises(CheckpointError, match=message):
        open_run(Path(path) if path else None)


def test_a_run_that_is_named_without_its_folder_is_meant():
    Path("runs/my text-1").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="run my text-1 is not there; did you mean 'runs/my text-1'[?]"):
        open_run(Path("my text-1"))


def test_of_many_runs_some_are_named_and_the_others_counted():
    for n in range(11):
        Path(f"runs/x-{n:02}").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"there are: runs/x-00, .*, runs/x-07 and 3 more$"):
        open_run(Path("nowhere"))


def test_a_file_of_a_run_is_told_its_run(run):
    put_checkpoint(run, 3)
    for file in (run.config_file, run.checkpoint_folder(3) / "state.json"):
        with pytest.raises(CheckpointError, match=r"are folders; name the run that it is in: runs.text-1$"):
            find_checkpoint(file)


def test_a_run_without_checkpoint_says_how_to_go_on(run):
    with pytest.raises(
        CheckpointError,
        match="runs/text-1 has no checkpoint yet: .*, or has just begun; begin it again with: glassgpt resume runs/text-1, or",
    ):
        find_checkpoint(run.folder)


def edit_json(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "is not of format 1; it was written by another version of glassgpt"),
        ({"n_heads": 2}, "has an unknown entry 'n_heads'"),
        ({"n_head": 5}, "describes no model: n_embd 12 does not divide into n_head 5"),
        ({"n_layer": "2"}, "describes no model"),
    ],
)
def test_a_config_that_describes_no_model(run, changes, message):
    put_checkpoint(run, 3)
    edit_json(run.checkpoint_folder(3) / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(run.checkpoint_folder(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_embd": 14}, r"tensor wte\.weight has shape \(257, 12\), its config asks for \(257, 14\)"),
        ({"n_layer": 3}, r"lacks the tensor h\.2\.ln_1\.weight"),
        ({"n_layer": 1}, r"has a tensor h\.1\.attn\.c_attn\.bias that its config has no place for"),
    ],
)
def test_weights_that_do_not_fit_their_config(run, changes, message):
    put_checkpoint(run, 3)
    edit_json(run.checkpoint_folder(3) / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(load_checkpoint(run.checkpoint_folder(3)))


def test_a_truncated_weights_file_is_one_line(run):
    put_checkpoint(run, 3)
    file = run.checkpoint_folder(3) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read .*use another checkpoint"):
        load_checkpoint(run.checkpoint_folder(3)).weights()


def test_a_run_is_its_folder():
    assert Run(Path("x")).checkpoint_folder(300) == Path("x/checkpoints/step-00000300")


def rewrite(folder, name, **entries):
    """Entries of a JSON file changed, under a manifest that is right again."""
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/passwd", "..", "", "a/b"])
def test_a_manifest_names_files_of_its_own_folder_only(run, name):
    put_checkpoint(run, 4)
    Path("runs/secret.txt").write_text("secret")
    (run.checkpoint_folder(4) / "manifest.json").write_text(json.dumps({name: {"bytes": 6, "sha256": ""}}))
    with pytest.raises(CheckpointError, match=r"manifest.json names .*, which is no file of this folder"):
        find_checkpoint(run.folder)


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("config.json", {"vocab_size": 2**30}, "describes a model of [0-9,]+ parameters, its weights have"),
        ("config.json", {"n_layer": 2.0}, "describes no model: n_layer is 2.0; it has to be a whole number"),
        ("config.json", {"n_layer": "2"}, "describes no model: n_layer is '2'"),
        ("config.json", {"labels": "ab"}, "describes no model: labels is 'ab', which is not a list"),
        ("config.json", {"labels": [1, 2]}, "describes no model: an entry of labels is 1"),
        ("config.json", {"lora": []}, r"describes no model: lora is \[\], which is not an object"),
        ("config.json", {"lora": {"rank": 1}}, "lora has the entries rank instead of rank, alpha, on"),
        ("config.json", {"lora": {"rank": 0, "alpha": 1, "on": "all"}}, "lora has rank 0"),
        ("config.json", {"lora": {"rank": 1, "alpha": -1, "on": "all"}}, "lora_alpha is -1.0; it has to be above 0"),
        ("config.json", {"lora": {"rank": 1, "alpha": 1, "on": "x"}}, "lora_on 'x' is not one of"),
        ("state.json", {"step": None}, "state.json is of step None"),
        ("state.json", {"step": -1}, "state.json is of step -1"),
        ("state.json", {"seconds": float("nan")}, "state.json is damaged: seconds is nan"),
        ("state.json", {"metrics_bytes": -5}, "state.json is damaged: metrics_bytes is -5"),
        ("state.json", {"data_fingerprint": "../../x"}, "data_fingerprint is '../../x', no sha256"),
        ("state.json", {"settings": []}, "state.json is damaged: settings is"),
    ],
)
def test_what_a_file_says_is_checked_behind_its_sums(run, name, entries, message):
    put_checkpoint(run, 4)
    rewrite(run.checkpoint_folder(4), name, **entries)
    with pytest.raises(CheckpointError, match=message):
        load_model(load_checkpoint(find_checkpoint(run.folder)))


@pytest.mark.parametrize(
    "best", ['{"step": 1e400, "val_loss": 1}', "[" * 100_000, '{"step": 4, "val_loss": NaN}', "[]"]
)
def test_damaged_figures_are_passed_over(run, best):
    run.checkpoints_folder.mkdir()
    run.best_file.write_text(best)
    run.checkpoint_folder(4).mkdir()
    lines = [
        "[]",
        '"step"',
        '{"step": "4", "val_loss": 1}',
        '{"step": 4, "val_loss": NaN}',
        '{"val_loss": 1}',
        "[" * 100_000,
    ]
    run.metrics_file.write_text("\n".join([*lines, '{"step": 4, "val_loss": 2.5}', ""]))
    assert run.metrics() == [{"step": 4, "val_loss": 2.5}]
    assert run.best() == {"step": 4, "val_loss": 2.5}
    assert problem_of_best(run) == "is garbled"
    assert problem_of_metrics(run) == "is damaged: 6 lines hold no figures, the first is line 1"


def test_a_last_line_that_is_being_written_is_no_damage(run):
    run.metrics_file.write_text('{"step": 3, "val_loss": 2.5}\n{"step": 4, "va')
    assert problem_of_metrics(run) is None and len(run.metrics()) == 1
    run.metrics_file.write_text('{"step": 3, "val_loss": 2.5}\n\x85\n{"step": 4}')
    assert problem_of_metrics(run) == "is damaged: line 2 holds no figures" and len(run.metrics()) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "state.json", "manifest.json"])
def test_a_pipe_in_a_files_place_is_not_waited_for(run, name):
    put_checkpoint(run, 4)
    file = run.checkpoint_folder(4) / name
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CheckpointError, match=f"{name} is (missing|no file)"):
        find_checkpoint(run.folder)


def test_weights_are_numbers_with_a_fraction_also_where_they_are_only_passed_on(run):
    put_checkpoint(run, 4)
    folder = run.checkpoint_folder(4)
    for odd in (torch.int64, torch.float8_e4m3fn):
        weights = load_checkpoint(folder).weights()
        save_tensors(weights | {"wte.weight": weights["wte.weight"].to(odd)}, folder / "model.safetensors")
        for read in (load_model, whole_weights):
            with pytest.raises(CheckpointError, match="tensor wte.weight is of type .*; weights have to be float16"):
                read(load_checkpoint(folder))
