"""The command as a user meets it: real processes, real signals, exit codes and single lines."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glassgpt.config.schema import FIELDS, shown_name

from ..command import GOLDEN, SIZES, TINY, glassgpt, limited, refused, start, wait_for


def test_train_sample_and_the_files_between(folder):
    code, _, err = glassgpt(folder, "train", "song.txt", *TINY, "--max-steps", 30, "--eval-every", 15)
    assert code == 0, err
    assert "step     30  validation" in err and "--- what it writes after 30 steps ---" in err
    assert "glassgpt sample runs/song-1" in err.replace("\\", "/")
    assert json.loads((folder / "runs/song-1/result.json").read_text())["steps"] == 30

    code, first, err = glassgpt(folder, "sample", "runs/song-1", "--prompt", "row", "--max-new-tokens", 40)
    assert code == 0 and first.startswith("row") and len(first) == 3 + 40 + 1, err
    again = glassgpt(folder, "sample", "--prompt", "row", "--max-new-tokens", 40)[1]
    other = glassgpt(folder, "sample", "--prompt", "row", "--max-new-tokens", 40, "--seed", 2)[1]
    assert again == first != other
    code, many, _ = glassgpt(folder, "sample", "--num-samples", 3, "--max-new-tokens", 5)
    assert re.findall(r"^--- (\d) of 3 ---$", many, re.M) == ["1", "2", "3"]
    process = start(folder, "sample", "--num-samples", 2, "--max-new-tokens", 4000, "--temperature", 1.5)
    assert process.stdout.read(30).startswith("--- 1 of 2 ---\n") and process.poll() is None  # as it is written
    process.kill()
    process.communicate()
    code, dashed, err = glassgpt(folder, "sample", "--prompt", "-", "--max-new-tokens", 5, stdin="boat")
    assert code == 0 and dashed.startswith("boat"), err
    assert (
        glassgpt(folder, "sample", "--prompt", "-", "--max-new-tokens", 5, stdin="boat\n")[1] == dashed
    )  # as `echo` has it

    line = refused(folder, "sample", "--prompt", "-", stdin="")
    assert "nothing came on standard input, which --prompt - reads" in line
    line = refused(folder, "sample", "--prompt", "row Z")
    assert "'Z'" in line and "4" in line
    code, out, err = glassgpt(folder, "resume")
    assert code == 0 and "is complete: all 30 steps are done" in out + err and "validation loss" in out + err
    assert "is complete: all 30 steps are done" in refused(folder, "resume", "--learning-rate", 0.1)


def test_prepare_then_train_on_the_folder(folder):
    (folder / "notes").mkdir()
    for i in range(12):
        (folder / f"notes/{i}.md").write_text(f"# note {i}\n" + "some words of a note\n" * 9, encoding="utf-8")
    (folder / "notes/picture.png").write_bytes(b"\x89PNG\x00\x00")
    code, out, err = glassgpt(folder, "prepare", "notes", "--tokenizer", "byte")
    assert code == 0, err
    assert "12 documents" in out and "vocabulary 257" in out and "skipped: 1" in out and "picture.png" in out
    assert "train on it with: glassgpt train" in out
    code, _, err = glassgpt(folder, "train", Path("data/notes"), *SIZES, "--max-steps", 3)
    assert code == 0, err
    line = refused(folder, "train", Path("data/notes"), *TINY, "--max-steps", 3)
    assert "was prepared with tokenizer byte, not char; leave tokenizer out" in line
    assert "exists already; name another folder" in refused(folder, "prepare", "notes")


def test_standard_input_is_text(folder):
    code, _, err = glassgpt(folder, "train", "-", *TINY, "--max-steps", 2, stdin="la la la, " * 200)
    assert code == 0, err
    assert (folder / "runs/stdin-1/result.json").exists()
    assert 'data = ["-"]' in (folder / "runs/stdin-1/config.toml").read_text()


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (getattr(signal, "SIGHUP", 1), 129)]
)
def test_a_signal_saves_and_resume_finishes(folder, number, code):
    process = start(folder, "train", "song.txt", *TINY, "--max-steps", 4000, "--log-every", 1, "--eval-every", 4000)
    metrics = folder / "runs/song-1/metrics.jsonl"
    assert wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 5, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "stopping once this step is done and saved" in err
    assert re.search(
        r"^glassgpt: stopped after step \d+ of 4000, saved; go on with: glassgpt resume runs/song-1$", err, re.M
    )
    assert "Traceback" not in err
    lines = metrics.read_text().count("\n")
    process = start(folder, "resume", "runs/song-1", "--max-steps", 4001)
    assert wait_for(lambda: metrics.read_text().count("\n") > lines + 5, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    continued = [json.loads(line) for line in metrics.read_text().splitlines()]
    (change,) = [line for line in continued if "changed" in line]
    assert change["changed"] == {"max_steps": [4000, 4001]}
    assert [line["step"] for line in continued if "train_loss" in line] == list(range(1, len(continued)))


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_a_second_ctrl_c_is_heard_in_the_middle_of_a_long_step(folder):
    """In which Python, busy in one call, makes one of two."""
    shape = ["--tokenizer", "char", "--context-length", 256, "--n-layer", 2, "--n-embd", 512, "--n-head", 4]
    process = start(
        folder, "train", "song.txt", *shape, "--batch-size", 64, "--micro-batch-size", 64, "--max-steps", 9, "--threads", 1,
        "--precision", "float32", "--compile", "off",
    )  # fmt: skip
    assert wait_for(lambda: (folder / "runs/song-1/samples/step-00000000.txt").exists(), process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - began < 3.0
    assert err.splitlines()[-1] == "glassgpt: stopped by Ctrl-C" and "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="pipes of another kind")
def test_a_run_whose_reader_has_gone_is_trained_to_its_end(folder):
    """As under `2>&1 | head`, or where a terminal's program dies."""
    process = start(folder, "train", "song.txt", *TINY, "--max-steps", 400, "--eval-every", 50, "--save-every", 50)
    assert wait_for(lambda: (folder / "runs/song-1/checkpoints/step-00000050").exists(), process)
    process.stderr.close()
    process.stdout.close()
    process.stdin.close()
    process.wait(60)
    assert json.loads((folder / "runs/song-1/result.json").read_text())["steps"] == 400


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_a_signal_that_was_ignored_stays_so(folder):
    """Under nohup, whose promise is that a closed terminal ends nothing."""
    process = start(
        folder, "train", "song.txt", *TINY, "--max-steps", 400, "--eval-every", 400,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    metrics = folder / "runs/song-1/metrics.jsonl"
    assert wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 1, process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads((folder / "runs/song-1/result.json").read_text())["steps"] == 400


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_a_run_that_is_training_is_not_resumed_and_one_that_was_killed_is(folder):
    process = start(
        folder, "train", "song.txt", *TINY, "--max-steps", 100_000, "--save-every", 5, "--eval-every", 50_000
    )
    assert wait_for(lambda: len([*folder.glob("runs/song-1/checkpoints/step-*")]) > 1, process)
    assert "runs/song-1 is being trained by another process right now" in refused(folder, "resume")
    assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    newest = max(folder.glob("runs/song-1/checkpoints/step-*"))
    last = int(newest.name[5:]) + 3
    code, _, err = glassgpt(folder, "resume", newest, "--max-steps", last)  # a checkpoint stands for its run
    assert code == 0, err
    assert json.loads((folder / "runs/song-1/result.json").read_text())["steps"] == last


def test_a_disk_that_is_full_is_one_line(folder):
    """A limit on the size of files is the same to a program, and can be tried everywhere: weights do not fit, notes do. Found
    before the first step."""
    code, _, err = glassgpt(
        folder, "train", "song.txt", *TINY, "--n-inner", 3200, "--max-steps", 4,
        preexec_fn=limited(RLIMIT_FSIZE=200_000),
    )  # fmt: skip
    assert code == 1, err
    assert re.search(
        r"^glassgpt: checkpoint runs/song-1/checkpoints/step-00000000 could not be written \(.*\): 1,2\d\d,\d\d\d bytes are "
        r"needed, [\d,]+ are free; raise that limit, then go on with: glass",
        err,
        re.M,
    )
    assert "Traceback" not in err
    assert [*(folder / "runs/song-1/checkpoints").iterdir()] == []


def test_a_disk_that_is_full_is_one_line_for_an_export_too(folder):
    assert glassgpt(folder, "train", "song.txt", *TINY, "--max-steps", 1)[0] == 0
    code, _, err = glassgpt(folder, "export", "--out", "out", preexec_fn=limited(RLIMIT_FSIZE=10_000))
    assert code == 1, err
    assert re.fullmatch(
        r"glassgpt: out could not be written \(File too large.*\): about 1\d,\d\d\d bytes are needed, [\d,]+ are free; "
        r"raise that limit, or choose another --out\n",
        err,
    )
    assert not [*folder.glob("*out*")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "--num-samples", "1000000000000"],
        ["train", "song.txt", *TINY[:10], *TINY[12:], "--batch-size", "2000000000", "--max-steps", "1"],
    ],
)
def test_too_little_memory_is_one_line(folder, arguments):
    if arguments[0] == "sample":
        assert glassgpt(folder, "train", "song.txt", *TINY, "--max-steps", 1)[0] == 0
    code, _, err = glassgpt(folder, *arguments, preexec_fn=limited(RLIMIT_AS=12 << 30))
    assert code in (1, 2) and "Traceback" not in err, err
    assert re.search(r"^glassgpt: .*(memory|num_samples|batch_size)", err, re.M)


def test_a_terminal_that_cannot_show_a_character_gets_a_question_mark(folder):
    (folder / "tür.txt").write_text("früh übt sich, " * 150, encoding="utf-8")
    narrow = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    code, _, err = glassgpt(folder, "train", "tür.txt", *TINY, "--max-steps", 2, **narrow)
    assert code == 0, err
    assert "runs/t?r-1" in err.replace("\\", "/")
    code, out, err = glassgpt(folder, "sample", "--max-new-tokens", 60, **narrow)
    assert code == 0 and "?" in out, err


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_runs_that_lead_nowhere_are_said_so_before_the_text_is_read(folder):
    (folder / "runs").symlink_to(folder / "gone")
    line = refused(folder, "train", "song.txt", *TINY, "--max-steps", 1, code=1)
    assert "runs cannot be made: " in line and line.endswith("runs is no folder; choose another place with --out")
    assert not (folder / "cache").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_training_leaves_nothing_half_written(folder, number, code):
    process = start(folder, "prepare", "-", "--out", "prepared")
    process.stdin.write("some text " * 100_000)
    process.stdin.flush()  # more than a pipe holds: it is being read, and waits for the rest of its input
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err and err.splitlines()[-1].startswith("glassgpt: stopped")
    assert not (folder / "prepared").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "song.txt", "--block-size", "3"],
            "--block-size is not an option; here it is called --context-length",
        ),
        (["train", "song.txt", "--lr", "3"], "--lr is not an option; here it is called --learning-rate"),
        (["train", "song.txt", "--max-step", "3"], "--max-step is not an option; did you mean --max-steps?"),
        (["train", "song.txt", "--preset", "babe"], "preset 'babe' is not known; did you mean baby?"),
        (["train", "song.txt", "--n-layer", "three"], "--n-layer"),
        (["train", "song.txt", "--max-steps", "2.5"], "--max-steps: '2.5' is no whole number"),
        (["sample", "--num-samples", "1.5"], "--num-samples: '1.5' is no whole number"),
        (["prepare", "song.txt", "--vocab-size", "300.9"], "--vocab-size: '300.9' is no whole number"),
        (["train", "song.txt", "--n-layer", "0"], "n_layer is 0; it has to be at least 1"),
        (["train", "song.txt", "--n-embd", "50", "--n-head", "4"], "n_embd 50 does not divide into n_head 4"),
        (["train", "song.txt", "--dropout", "1.0"], "dropout is 1.0; it has to be below 1"),
        (["train", "song.txt", "--schedule", "stairs"], "--schedule"),
        (["train", "song.txt", "--max-steps", "3", "--minutes", "1"], "max_steps and minutes both say how long"),
        (["train", "song.txt", "--config", "none.toml"], "config file none.toml is not there"),
        (["train", "song.txt", "-x"], "-x is not an option; see glassgpt train --help"),
        (["train", "song.txt", "--presset", "baby"], "--presset is not an option; did you mean --preset?"),
        (["sample", "--promt", "x"], "--promt is not an option; did you mean --prompt?; see glassgpt sample --help"),
        (["sample", "runs", "The"], "'The' is one argument too many; see glassgpt sample --help"),
        (["plan", "runs/a"], "'runs/a' is one argument too many; it reads no text, and a run's settings are --config "),
        (
            ["plan", "--tokens", ""],
            "--tokens '' is no number of tokens between 1 and 1e18; say it as 300M, 10B or 2.5e9",
        ),
        (
            ["train", "--dataset", "x"],
            "--dataset is not an option; TEXT stands alone: glassgpt train TEXT; see glassgpt",
        ),
        (["sample", "--run", "x"], "--run is not an option; RUN stands alone: glassgpt sample RUN; see glassgpt"),
        (["tran"], "there is no command 'tran'; did you mean train?; there are: train, resume, "),
        (["tran"], "verify, doctor"),
        (["--preset", "gpt2", "plan"], "--preset stands before the command; options come after it: glassgpt COMMAND"),
        (["prepare"], "prepare needs text"),
        (["train", "song.txt", "--vocab-size", "1e20"], "--vocab-size"),
        (
            ["train", "song.txt", "--vocab-size", "1" + 20 * "0"],
            "vocab_size is 1" + 20 * "0" + "; it has to be at most",
        ),
        (["train", "song.txt", "--architecture", "modern", "--bias"], "architecture modern has no use for bias"),
    ],
)
def test_what_cannot_be_asked_is_one_line(folder, arguments, message):
    assert message in refused(folder, *arguments)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--batch-size",
            "a new run can have another, and go on from this one's weights: glassgpt train TEXT --from RUN ",
        ),
        (
            "--seed",
            "a new run can have another, and go on from this one's weights: glassgpt train TEXT --from RUN --seed",
        ),
        ("--n-layer", "a run that has another begins anew: glassgpt train TEXT --n-layer ..."),
        ("--from", "a run that has another begins anew: glassgpt train TEXT --from ..."),
        (
            "--data",
            "is no flag of resume; text that was moved is named in the run's config.toml, and its content compared",
        ),
        ("--minutes", "a run under way is told in steps: glassgpt resume RUN --max-steps N"),
    ],
)
def test_what_a_run_cannot_change_on_its_way_is_no_misspelling(refused_here, flag, message):
    line = refused_here("resume", flag, "8")
    assert line.startswith(f"{flag} ") and message in line and "did you mean" not in line
    assert (
        flag in ("--minutes", "--data")
        or f"{flag} cannot change on the way (glassgpt resume --help lists what can)" in line
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere.txt"], "nowhere.txt does not exist"),
        (["train", "sing.txt"], "did you mean song.txt?"),
        (["train", "song.txt", "--out", "."], ". is already there, and a run is never overwritten"),
        (["train", "song.txt", *SIZES, "--tokenizer", "bqe", "--max-steps", "1"], "did you mean bpe?"),
        (["train", "song.txt", "--max-steps", "1", "--device", "tpu"], "device 'tpu' is not known; it is auto, cpu"),
        (
            ["train", "song.txt", "--max-steps", "1", "--tokenizer", "char", "--threads", "900"],
            "threads is 900; this machine",
        ),
        (["train", "empty.txt"], "empty"),
        (["train", "binary.bin"], "binary.bin"),
        (["train", "latin.txt"], "latin.txt"),
        (["train", "short.txt", "--tokenizer", "char", "--max-steps", "1"], "lower context_length to at most"),
        (["sample"], "there is no run under runs/ yet; train one with: glassgpt train"),
        (["sample", "song.txt"], "song.txt is not a run"),
        (["resume", "nowhere"], "run nowhere is not there"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, refused_here, arguments, message):
    (folder / "empty.txt").touch()
    (folder / "short.txt").write_text("too short to learn from")
    (folder / "binary.bin").write_bytes(b"MZ\x00\x01" * 50)
    (folder / "latin.txt").write_bytes("Grüße ".encode("latin-1") * 50)
    assert message in refused_here(*arguments)
    assert not (folder / "runs").exists()


def test_a_device_that_is_not_there_is_a_failed_run(folder):
    import torch

    if torch.cuda.is_available():
        pytest.skip("it is there")
    line = refused(folder, "train", "song.txt", "--max-steps", "1", "--tokenizer", "char", "--device", "cuda", code=1)
    assert "sees no CUDA device here; use cpu" in line


def test_the_help_of_a_verb_is_its_own_text(folder):
    _, root, _ = glassgpt(folder, "--help")
    _, own, _ = glassgpt(folder, "train", "--help")
    assert "Train a model on text; with no argument" in " ".join(root.split()) and "In brackets" not in root
    assert "In brackets: what it is where nothing is said" in " ".join(own.split())


def test_every_setting_is_a_flag_of_its_name(folder):
    code, out, _ = glassgpt(folder, "train", "--help")
    assert code == 0
    flags = set(re.findall(r"--[a-z][a-z0-9-]*", out))
    assert {"--" + shown_name(name).replace("_", "-") for name in FIELDS if name != "data"} <= flags


def test_what_needs_no_torch_does_not_wait_for_it(folder):
    probe = "import sys; from glassgpt.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    checkpoint = folder / "run" / "checkpoints" / "step-00000000"
    checkpoint.mkdir(parents=True)
    for file in (checkpoint / "model.safetensors", folder / "run" / "config.toml"):
        file.touch()
    for code, *arguments in (
        (0, "--help"), (0, "--version"), (0, "train", "--help"), (0, "sample", "--help"),
        (1, "verify", "run"), (2, "verify", "no"), (2, "resume", "no"),
    ):  # fmt: skip
        command = [sys.executable, "-c", probe, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == code and done.stdout.endswith("False\n"), done.stderr


def test_the_output_may_be_cut_off(folder):
    process = start(folder, "train", "--help")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.stdin.close()
    process.wait(timeout=30)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_finds_no_room_is_one_line_and_costs_no_run(folder, unbuffered):
    def into_full(*arguments, stdout=False, stderr=False):
        with Path("/dev/full").open("w") as full:
            process = subprocess.run(
                [sys.executable, "-m", "glassgpt", *map(str, arguments)], cwd=folder, check=False,
                env=os.environ | {"GLASSGPT_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": unbuffered}, text=True,
                stdout=full if stdout else subprocess.PIPE, stderr=full if stderr else subprocess.PIPE,
            )  # fmt: skip
        return process.returncode, process.stderr

    run = ["train", "song.txt", *TINY, "--max-steps", 2, "--out"]
    assert into_full(*run, "a", stderr=True) == (1, None)
    assert into_full(*run, "b", stdout=True, stderr=True) == (1, None)
    told = "glassgpt: standard output could not be written (No space left on device); send it where there is room\n"
    for name in "ab":
        assert json.loads((folder / name / "result.json").read_text())["steps"] == 2
        assert into_full("verify", name, stdout=True) == (1, told)
    assert into_full("sample", "a", "--max-new-tokens", 4, stdout=True) == (1, told)


def test_doctor_says_what_a_bug_report_needs(folder):
    code, out, err = glassgpt(folder, "doctor")
    assert code == 0, err
    for word in ("torch", "device", "precision", "compile", "free memory", "free disk"):
        assert word in out
    assert re.search(r"one training step +ok", out) and re.search(r"one generation +ok", out)


@pytest.mark.parametrize(
    ("redirect", "said"),
    [
        ("<&-", "nothing came on standard input"),
        ("< bytes", "the text is not UTF-8: after 4 characters comes the byte 0xff"),
    ],
)
def test_standard_input_that_is_closed_or_no_text_is_said_in_one_line(folder, redirect, said):
    """As a shell starts it: without one, and with bytes that are no UTF-8."""
    (folder / "bytes").write_bytes(b"row \xff")
    run = GOLDEN / "gpt2"
    command = f'"{sys.executable}" -m glassgpt sample "{run}" --prompt - {redirect}'
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
