"""`glassgpt verify`: what it says of whole and of damaged runs."""

import hashlib
import json
import shutil

import pytest
import torch

from glassgpt.checkpoint import Run, save_checkpoint
from glassgpt.config import GPTConfig, build_config
from glassgpt.errors import MachineError
from glassgpt.model import build_model
from glassgpt.tokenizer import build_tokenizer

from ..command import line_of

GONE, EDITED = "gone", "edited"
SHAPE = GPTConfig(vocab_size=257, context_length=7, n_layer=2, n_head=2, n_embd=12)


@pytest.fixture
def run(folder):
    made = Run(folder / "runs/song-1")
    made.folder.mkdir(parents=True)
    made.write_config(build_config(flags={"max_steps": 10}))
    made.metrics_file.touch()
    for step in (3, 6, 9):
        with made.metrics_file.open("a") as file:
            file.write(json.dumps({"step": step, "train_loss": 3.0}) + "\n")
            if step == 6:
                file.write(json.dumps({"step": step, "val_loss": 3.0}) + "\n")
        save_checkpoint(
            made.checkpoint_folder(step),
            config=SHAPE,
            weights=dict(build_model(SHAPE, seed=step).named_parameters()),
            optimizer_tensors={"wte.weight/exp_avg": torch.ones(257, 12)},
            tokenizer_json=build_tokenizer("byte", lambda: iter(())).to_json(),
            state={
                "step": step, "tokens": 0, "seconds": 0.0, "metrics_bytes": made.metrics_file.stat().st_size,
                "data_fingerprint": "0" * 64, "data_content": "song", "settings": made.config().flat(),
            },
        )  # fmt: skip
    made.write_best(6, 3.0)
    return made


def edit_state(run, step, **entries):
    """In a checkpoint that is whole again afterwards."""
    folder = run.checkpoint_folder(step)
    state = json.loads((folder / "state.json").read_text()) | entries
    content = json.dumps({name: value for name, value in state.items() if value is not GONE}).encode()
    (folder / "state.json").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def table(out):
    return {line.split()[0].rsplit("/", 1)[-1]: line.split(maxsplit=3)[3] for line in out.splitlines()}


def test_a_whole_run_is_said_to_be_whole(run, glassgpt_here):
    code, out, err = glassgpt_here("verify")
    assert (code, err) == (0, "")
    assert table(out) == {f"step-0000000{step}": "whole" for step in (3, 6, 9)}


def test_every_damaged_file_is_named_and_the_exit_code_is_1(run, glassgpt_here):
    weights = run.checkpoint_folder(9) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 16
    weights.write_bytes(content)
    (run.checkpoint_folder(3) / "tokenizer.json").unlink()
    code, out, err = glassgpt_here("verify", run.folder)
    assert code == 1
    assert table(out) == {
        "step-00000003": "tokenizer.json is missing",
        "step-00000006": "whole",
        "step-00000009": "model.safetensors is not what was written (its sha256 differs)",
    }
    assert err == f"glassgpt: 2 of 3 checkpoints are damaged; the newest whole one is {run.checkpoint_folder(6)}\n"


@pytest.mark.parametrize(
    ("file", "content", "problem", "advice"),
    [
        ("checkpoints/best.json", "{", "is garbled", "a resume goes on all the same"),
        ("checkpoints/best.json", GONE, "is gone", "a resume goes on all the same"),
        ("metrics.jsonl", "[]\n", "is damaged: line 1 holds no figures", "a resume goes on all the same"),
        ("metrics.jsonl", GONE, "is gone", "a resume goes on all the same"),
        ("metrics.jsonl", '{"step": 3, "train_loss": 3.0}\n', "has lost lines: it ends 91 bytes too early",
         "a resume goes on all the same"),
        ("config.toml", "", "is empty", "bring config.toml back"),
        ("config.toml", EDITED, "describes no run: optimizer 'muom' is not one of adamw, muon; did you mean muon?",
         "bring config.toml back"),
    ],
)  # fmt: skip
def test_the_runs_own_files_are_looked_at_as_well(run, glassgpt_here, file, content, problem, advice):
    edited = run.config_file.read_text().replace('"muon"', '"muom"')
    (run.folder / file).write_text(edited if content is EDITED else content)
    if content is GONE:
        (run.folder / file).unlink()
    name = file.rsplit("/", maxsplit=1)[-1]
    code, out, err = glassgpt_here("verify", run.folder)
    assert code == 1 and table(out) == {f"step-0000000{step}": "whole" for step in (3, 6, 9)} | {name: problem}
    assert err == f"glassgpt: every checkpoint is whole, but damaged beside them: {name}; {advice}\n"
    (run.checkpoint_folder(9) / "state.json").unlink()
    code, _, err = glassgpt_here("verify", run.folder)
    assert code == 1 and err.endswith(f"{run.checkpoint_folder(6)}; damaged beside them: {name}\n")


def test_a_wrong_figure_for_the_best_is_said_and_not_believed(run, glassgpt_here):
    run.write_best(6, 0.01)
    code, out, _ = glassgpt_here("verify", run.folder)
    assert code == 1 and table(out)["best.json"] == "says 0.01 of step 6, which was 3"
    edit_state(run, 9, best={"step": 6, "val_loss": 2.0})  # whose hash is right, says otherwise than metrics.jsonl
    assert table(glassgpt_here("verify", run.folder)[1])["best.json"] == "says 0.01 of step 6, which was 2"
    run.write_best(6, 2.0)
    assert glassgpt_here("verify", run.folder)[0] == 0
    edit_state(run, 9, best=None)
    run.write_best(6, 3.0000000001)  # eight digits stand in metrics.jsonl
    assert glassgpt_here("verify", run.folder)[0] == 0


def test_a_checkpoint_of_another_run_is_told_from_an_edited_config(run, glassgpt_here):
    edit_state(run, 9, settings=run.config().flat() | {"seed": 5})
    code, out, err = glassgpt_here("verify", run.folder)
    assert code == 1 and table(out)["step-00000009"] == "is of another run: seed was 5 and is 1337"
    assert table(out)["step-00000006"] == "whole" and "the newest whole one is" in err
    run.config_file.write_text(run.config_file.read_text().replace("seed = 1337", "seed = 7"))
    shutil.rmtree(run.checkpoint_folder(9))
    code, out, err = glassgpt_here("verify", run.folder)
    assert code == 1 and table(out)["config.toml"] == "is not what the run was begun with: seed was 1337 and is 7"
    assert table(out)["step-00000006"] == "whole" and err.endswith("beside them: config.toml; bring config.toml back\n")


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"settings": [1]}, "state.json is damaged: settings is [1], which is not an object"),
        ({"settings": "x"}, "state.json is damaged: settings is 'x', which is not an object"),
        (
            {"data_fingerprint": GONE},
            "state.json has no entry 'data_fingerprint', without which no run can go on from it",
        ),
        ({"data_content": "another"}, "is of another run: its text is not that of step-00000003"),
    ],
)
def test_a_state_that_no_resume_takes_is_not_whole(run, glassgpt_here, entries, problem):
    edit_state(run, 9, **entries)
    code, out, _ = glassgpt_here("verify", run.folder)
    assert code == 1 and table(out)["step-00000009"] == problem


def test_a_checkpoint_under_another_name_is_not_whole_by_itself_either(run, glassgpt_here):
    renamed = run.checkpoint_folder(9).rename(run.checkpoint_folder(8))
    code, out, _ = glassgpt_here("verify", renamed)
    assert code == 1 and "the folder was renamed" in out


def test_adapters_without_their_model_are_no_whole_run(run, glassgpt_here):
    text = run.config_file.read_text().replace("\nlora = 0", "\nlora = 2").replace('\nfrom = ""', '\nfrom = "gpt2"')
    run.config_file.write_text(text)
    for step in (3, 6, 9):
        edit_state(run, step, settings=run.config().flat())
    code, out, _ = glassgpt_here("verify", run.folder)
    assert code == 1 and table(out)["parent"] == "is gone, and the adapters belong to that model"


def test_a_name_that_is_no_setting_is_named(run, glassgpt_here):
    run.config_file.write_text(run.config_file.read_text().replace("\nbeta1 ", "\nbetta1 "))
    said = "'betta1' is not a setting; did you mean beta1?"
    assert table(glassgpt_here("verify", run.folder)[1])["config.toml"] == f"describes no run: {said}"
    code, _, err = glassgpt_here("resume", run.folder)
    assert (code, err) == (2, f"glassgpt: {run.config_file}: {said}\n")
    run.config_file.write_text(run.config_file.read_text().replace("\nbetta1 = 0.9", "\nbeta1 = 1.9"))
    code, _, err = glassgpt_here("resume", run.folder)
    assert (code, err) == (2, f"glassgpt: {run.config_file}: beta1 is 1.9; it has to be below 1\n")
    run.config_file.write_text("beta1 =")
    assert glassgpt_here("resume", run.folder)[0] == 1  # no longer what was written


def test_a_run_without_settings_is_named_where_a_new_run_begins_from_it(run, glassgpt_here):
    run.config_file.unlink()
    code, _, err = glassgpt_here("train", "text.txt", "--from", run.folder)
    assert code == 1 and err.startswith(f"glassgpt: {run.folder} has no config.toml any more")


@pytest.mark.parametrize("name", ["checkpoints", "samples"])
def test_a_file_where_a_folder_belongs_is_to_be_moved_away(run, name):
    shutil.rmtree(run.folder / name, ignore_errors=True)
    (run.folder / name).touch()
    with pytest.raises(
        MachineError, match=f"{name} is no folder, and a run that is trained writes into it; move it away"
    ):
        run.require_writable()


def test_a_run_without_settings_or_with_a_file_for_its_checkpoints_says_so(run, glassgpt_here):
    run.config_file.unlink()
    for verb in ("verify", "resume", "sample"):
        code, _, err = glassgpt_here(verb, run.folder)
        assert code == 1 and err.startswith(f"glassgpt: {run.folder} has no config.toml any more")
        assert f"glassgpt sample {run.checkpoint_folder(9)}" in err and err.count("\n") == 1
    run.write_config(build_config(flags={"max_steps": 10}))
    shutil.rmtree(run.checkpoints_folder)
    run.checkpoints_folder.touch()
    for verb in ("verify", "resume", "sample"):
        code, _, err = glassgpt_here(verb, run.folder)
        said = f"glassgpt: {run.checkpoints_folder} is no folder, and checkpoints lie in one; bring it back\n"
        assert (code, err) == (1, said)


def test_a_best_checkpoint_that_is_gone_is_said_so(run, glassgpt_here):
    run.write_best(4, 1.0)
    code, out, err = glassgpt_here("verify", run.folder)
    assert code == 1 and table(out)["best.json"] == "names step 4, whose checkpoint is gone"
    _, _, err = glassgpt_here("sample", run.folder, "--max-new-tokens", 2)
    assert f"the best checkpoint, of step 4, is gone; taking {run.checkpoint_folder(9)} instead" in err


def test_checkpoints_that_are_gone_are_said_so(run, glassgpt_here):
    shutil.rmtree(run.checkpoints_folder)
    code, _, err = glassgpt_here("verify", run.folder)
    assert code == 1 and "has done 9 steps and has no checkpoint any more; bring one back" in err


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "checkpoints/best.json", "result.json"])
def test_a_folder_where_a_file_is_written_is_to_be_moved_away(run, glassgpt_here, name):
    (run.folder / name).unlink(missing_ok=True)
    (run.folder / name).mkdir()
    code, _, err = glassgpt_here("resume", run.folder)
    rule = "is a folder, and a run that is trained writes a file there; move it away"
    assert (code, err) == (1, f"glassgpt: {run.folder / name} {rule}\n")


def test_what_a_run_under_way_removes_meanwhile_is_no_damage(run, glassgpt_here, monkeypatch):
    real = Run.problem_of

    def problem_of(self, step):
        if step == 3:
            shutil.rmtree(self.checkpoint_folder(3))
        return real(self, step)

    monkeypatch.setattr(Run, "problem_of", problem_of)
    code, out, _ = glassgpt_here("verify", run.folder)
    assert code == 0 and table(out) == {"step-00000006": "whole", "step-00000009": "whole"}


def test_going_back_is_said_to_take_more_than_a_name(run, glassgpt_here):
    code, _, err = glassgpt_here("resume", run.checkpoint_folder(6))
    assert code == 2 and err == (
        f"glassgpt: {run.checkpoint_folder(6)} is not the newest checkpoint, and a run goes on from that; to go back to this "
        f"one, move the newer ones (step-00000009) out of {run.checkpoints_folder} first\n"
    )
    run.require_newest(run.checkpoint_folder(9))
    run.require_newest(run.folder)


def test_one_checkpoint_alone(run, glassgpt_here):
    (run.checkpoint_folder(9) / "state.json").unlink()
    code, out, _ = glassgpt_here("verify", run.checkpoint_folder(6))
    assert code == 0 and table(out) == {"step-00000006": "whole"}
    code, out, err = glassgpt_here("verify", run.checkpoint_folder(9))
    assert code == 1 and err == "glassgpt: 1 of 1 checkpoints are damaged; none is whole\n"


def test_the_model_that_adapters_belong_to_is_looked_at_as_well(run, glassgpt_here):
    shutil.copytree(run.checkpoint_folder(3), run.folder / "parent")
    (run.folder / "parent/config.json").write_text(json.dumps({}))
    code, out, _ = glassgpt_here("verify")
    assert code == 1 and table(out)["parent"].startswith("config.json has 2 bytes instead of")


@pytest.mark.parametrize("path", ["nowhere", "song.txt"])
def test_what_is_no_run_is_one_line(run, glassgpt_here, path):
    assert line_of(*glassgpt_here("verify", path), 2)


def test_a_run_without_checkpoints_says_how_to_go_on(run, glassgpt_here):
    shutil.rmtree(run.checkpoints_folder)
    run.metrics_file.unlink()
    line = line_of(*glassgpt_here("verify"), 2)
    assert line == (
        "runs/song-1 has no checkpoint yet: it was stopped before its first one, or has just begun; begin it again with: "
        "glassgpt resume runs/song-1, or delete it"
    )
