"""Ctrl-C and a polite kill before the training loop and in every other verb: one line, at once, and nothing is left.

Real processes. A phase is known by its line of progress, or by the handlers that the kernel knows; then a random moment.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch

from glassgpt.config import build_config
from glassgpt.train import train_run

from ..command import SIZES, SONG, start, wait_for, wait_for_line
from .conftest import words

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of another kind")

LINES = {signal.SIGINT: "glassgpt: stopped by Ctrl-C", signal.SIGTERM: "glassgpt: stopped by a signal"}
SMALL = {"context_length": 16, "n_layer": 1, "n_head": 2, "n_embd": 16, "batch_size": 4, "max_steps": 1, "device": "cpu",
         "warmup_steps": 2, "precision": "float32", "threads": 1}  # fmt: skip
AT_ONCE = 1.5  # seconds; this file runs when nothing else does (check.py)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on text, one on labels, a foreign model and some text."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "song.txt").write_text(SONG, encoding="utf-8")
    (folder / "words.txt").write_text(words(1.5), encoding="utf-8")
    rows = [f"it was {'good' if n % 3 else 'bad'} {n},{'pos' if n % 3 else 'neg'}" for n in range(3000)]
    (folder / "moods.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    for data, kind, out in (("song.txt", "char", "song"), ("moods.csv", "byte", "moods")):
        config = build_config(flags=SMALL | {"data": (str(folder / data),), "tokenizer": kind})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GLASSGPT_CACHE", str(folder / "cache"))
            train_run(config, out=folder / out)
    (folder / "tmp").mkdir()
    torch.save(nanogpt(), folder / "ckpt.pt")
    shutil.rmtree(folder / "cache")
    return folder


def nanogpt(n_layer=4, n_embd=384, vocab_size=65, context=64):
    def block(i):
        shapes = {"attn.c_attn": (3 * n_embd, n_embd), "attn.c_proj": (n_embd, n_embd)}
        shapes |= {"mlp.c_fc": (4 * n_embd, n_embd), "mlp.c_proj": (n_embd, 4 * n_embd)}
        norms = {f"transformer.h.{i}.{name}.weight": torch.ones(n_embd) for name in ("ln_1", "ln_2")}
        return norms | {f"transformer.h.{i}.{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}

    embedding = torch.zeros(vocab_size, n_embd)
    model = {"transformer.wte.weight": embedding, "lm_head.weight": embedding}
    model |= {"transformer.wpe.weight": torch.zeros(context, n_embd), "transformer.ln_f.weight": torch.ones(n_embd)}
    for i in range(n_layer):
        model |= block(i)
    shape = {"n_layer": n_layer, "n_head": 6, "n_embd": n_embd, "block_size": context, "vocab_size": vocab_size}
    return {"model": model, "model_args": shape | {"bias": False, "dropout": 0.0}}


def files_below(folder):
    """Every file and folder, but for those that torch keeps for itself."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in names if "torchinductor" not in name}


def handles_signals(process):
    """Whether glassgpt's first line has been run; elsewhere than on Linux, whether that is likely."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        time.sleep(0.3)
        return True
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (signal.SIGTERM - 1) & 1)


def interrupt(process, number):
    """Its standard output; checks all that a signal promises."""
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    seconds = time.monotonic() - began
    assert process.returncode == 128 + number, err
    *progress, line = err.splitlines()
    assert line == LINES[number]
    assert not [p for p in progress if p.startswith("glassgpt") or "Error" in p or "Traceback" in p or "rning:" in p], (
        err
    )
    assert seconds < AT_ONCE, f"{seconds:.2f} s"
    return out


def children(process):
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return "Z" not in re.search(r"State:\s*(\w)", Path(f"/proc/{pid}/status").read_text())[1]
    except OSError:
        return False


@pytest.mark.parametrize("number", LINES)
@pytest.mark.parametrize("verb", ["sample", "train"])
def test_while_python_and_torch_are_loaded(made, verb, number):
    before = files_below(made)
    arguments = {"sample": ["song"], "train": ["song.txt", *SIZES, "--max-steps", 5, "--out", "never"]}[verb]
    process = start(made, verb, *arguments)
    assert wait_for(lambda: handles_signals(process), process)
    time.sleep(random.uniform(0, 0.6))
    interrupt(process, number)
    assert files_below(made) == before


PHASES = ["reading", "learning", "turning", "counting"]


@pytest.mark.parametrize("phase", PHASES)
def test_while_text_is_prepared(made, phase):
    number = random.choice([*LINES])
    before = files_below(made)
    process = start(made, "prepare", "words.txt", "--out", "prepared")
    wait_for_line(process, phase)
    time.sleep(random.uniform(0, 0.05))
    interrupt(process, number)
    assert files_below(made) == before


@pytest.mark.parametrize("phase", PHASES[1::2])
def test_while_training_prepares_its_text_in_the_cache(made, phase):
    process = start(made, "train", "words.txt", *SIZES, "--max-steps", 1, "--out", "never")
    before = files_below(made)
    wait_for_line(process, phase)
    time.sleep(random.uniform(0, 0.05))
    interrupt(process, signal.SIGINT)
    assert files_below(made) - before <= {"cache", "cache/data"}
    shutil.rmtree(made / "cache", ignore_errors=True)


def test_in_one_call_of_compiled_code_that_takes_long(made):
    """Of those that Python's own handlers wait for: here a sort of some seconds."""
    code = (
        "from glassgpt.signals import heed, undone; heed()\n"
        "import sys, pathlib, numpy as np\n"
        "pathlib.Path('begun').touch(); a = np.random.default_rng(1).random(30_000_000)\n"
        "with undone(pathlib.Path('begun').unlink):\n"
        "    print('printed'); print('sorting', file=sys.stderr, flush=True); a.sort(); a.sort(); a.sort()"
    )
    process = start(made, program=("-c", code))
    wait_for_line(process, "sorting")
    time.sleep(0.1)
    assert interrupt(process, signal.SIGINT) == "printed\n"
    assert not (made / "begun").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are told by /proc")
@pytest.mark.parametrize("number", LINES)
def test_while_a_foreign_model_is_read_by_a_process_of_its_own(made, number):
    before = files_below(made)
    process = start(made, "import", "ckpt.pt", "--out", "imported")
    assert wait_for(lambda: children(process), process)
    time.sleep(random.uniform(0, 0.4))
    readers = children(process)
    interrupt(process, number)
    assert wait_for(lambda: not any(map(is_alive, readers)), seconds=1.0), "a child lives on"
    assert files_below(made) == before


def test_the_reader_of_a_foreign_model_ends_with_who_asked_for_it(tmp_path):
    """Killed, perhaps; here while it waits for a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "ckpt.pt")
    reader = start(tmp_path, "ckpt.pt", tmp_path, program=("-m", "glassgpt.formats.unpickle"))
    with pytest.raises(subprocess.TimeoutExpired):
        reader.wait(1)
    reader.stdin.close()
    try:
        assert reader.wait(10) == 1
    finally:
        reader.kill()
        reader.stdout.close()
        reader.stderr.close()


VERBS = {
    "export": ["song", "--out", "exported"],
    "sample": ["song", "--max-new-tokens", 100_000],
    "classify": ["moods", "--data", "moods.csv"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_in_the_other_verbs(made, verb):
    """Whatever they do at that moment; what they were quicker with is whole."""
    before = files_below(made)
    number = random.choice([*LINES])
    process = start(made, verb, *VERBS[verb])
    assert wait_for(lambda: handles_signals(process), process)
    time.sleep(random.uniform(0.8, 1.6))
    if process.poll() is None:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (128 + number, 0) and "Traceback" not in err, err
    if process.returncode == 128 + number:
        assert err.splitlines()[-1] == LINES[number]
    shutil.rmtree(made / "exported", ignore_errors=True)
    assert files_below(made) == before


def test_while_an_export_is_written_it_is_taken_away_again(made):
    before = files_below(made)
    code = (
        "from glassgpt.signals import heed; heed()\n"
        "import sys, time, pathlib; from glassgpt.formats import folder\n"
        "def write(path):\n"
        "    path.write_text('half'); print('half', file=sys.stderr, flush=True); time.sleep(60)\n"
        "from glassgpt.cli import main\n"
        "import glassgpt.cli.export as verb, glassgpt.formats as formats\n"
        "formats.export_model = lambda run, out, **_: folder.write_folder(out, {'a': write}, 0)\n"
        "main(['export', '--out', 'exported'])"
    )
    process = start(made, program=("-c", code))
    wait_for_line(process, "half")
    interrupt(process, signal.SIGTERM)
    assert files_below(made) == before


def test_a_prompt_of_chat_gives_the_terminal_back_and_ends(made):
    code = (
        "from glassgpt.signals import heed; heed()\n"
        "import sys; from glassgpt.cli import main; import glassgpt.cli.chat as verb, glassgpt.generate as generate\n"
        "generate.load_chat = lambda *_: print('asking', file=sys.stderr, flush=True)\n"
        "main(['chat'])"
    )
    process = start(made, program=("-c", code))
    wait_for_line(process, "asking")
    time.sleep(0.1)
    interrupt(process, signal.SIGTERM)


def test_one_that_the_training_loop_cannot_hear_yet_is_acknowledged(made):
    """In one long call of compiled code, of which a large model's backward is one; and only once."""
    code = (
        "from glassgpt.signals import heed; heed()\n"
        "import hashlib, sys; from glassgpt.train.guards import stop_on_signal\n"
        "with stop_on_signal(lambda: print('told', file=sys.stderr, flush=True)):\n"
        "    print('begun', file=sys.stderr, flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 2_500_000)\n"
        "    print('done', file=sys.stderr, flush=True)"
    )
    process = start(made, program=("-c", code))
    wait_for_line(process, "begun")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    said = "glassgpt: stopping once the computation under way is done; once more stops at once, unsaved"
    assert [line for line in err.splitlines() if line] == [said, "told", "done"]


def test_a_second_one_leaves_at_once(made):
    """While what was begun is being undone, which may take long."""
    code = (
        "from glassgpt.signals import heed, undone; heed()\n"
        "import os, sys, time\n"
        "def undo(): os.write(2, b'undoing\\n'); time.sleep(60)\n"
        "with undone(undo): print('begun', file=sys.stderr, flush=True); time.sleep(60)"
    )
    process = start(made, program=("-c", code))
    wait_for_line(process, "begun")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # the same one once more, passed on by whoever stands between
    wait_for_line(process, "undoing")
    time.sleep(0.6)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - began < AT_ONCE


def test_what_was_ignored_stays_ignored(made):
    """As nohup and a shell's background do it."""

    def ignore():
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    process = start(made, "sample", "song", "--max-new-tokens", 5, preexec_fn=ignore)
    assert wait_for(lambda: handles_signals(process), process)
    for number in (signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_a_reader_that_stopped_reading_holds_nothing_up(made):
    code = (
        "from glassgpt.signals import heed; heed()\n"
        "import sys; print('begun', file=sys.stderr, flush=True)\n"
        "while True: print('more than a pipe holds')"
    )
    process = start(made, program=("-c", code))
    wait_for_line(process, "begun")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    watchdog = threading.Timer(10, process.kill)
    watchdog.start()
    process.wait()  # without reading on
    watchdog.cancel()
    process.communicate()
    assert process.returncode == 130
