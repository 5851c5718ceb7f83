"""Runs of every checkpoint format that was ever written, kept for ever: they load, compute what they computed, and go on.

How tests/golden/format-1 was made, in a folder with song.txt, talk.jsonl and moods.csv (COMMON is `--n-layer 1 --n-head 2
--n-embd 8 --max-steps 4 --warmup-steps 1 --learning-rate 0.3 --eval-every 2 --save-every 2 --sample-every 4 --log-every 1
--batch-size 2 --micro-batch-size 2 --device cpu --precision float32 --compile off --threads 1`, for the third without the
shape; the learning rate is that high so that no part of the model stays so small that its formula makes no difference):

    glassgpt train song.txt --out gpt2 --architecture gpt2 --tokenizer char --context-length 16 COMMON
    glassgpt train song.txt --out modern --architecture modern --n-kv-head 1 --tokenizer byte --context-length 16 COMMON
    glassgpt train song.txt --out lora --from gpt2 --lora 2 COMMON
    glassgpt train talk.jsonl --out chat --architecture gpt2 --tokenizer char --context-length 48 COMMON
    glassgpt train moods.csv --out labels --architecture gpt2 --tokenizer char --context-length 24 COMMON

Then whatever came after step 2 was deleted (the checkpoint of step 4, result.json, loss.png, samples), and best.json set to
step 2: runs that were killed. logits.json holds the last position's logits for a prompt at step 2, and at step 4, where a
resume has to arrive. A new format gets a folder of its own beside this one; none is ever written again.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from glassgpt.checkpoint import Run, find_checkpoint, load_checkpoint, load_model
from glassgpt.checkpoint.checkpoint import FORMAT
from glassgpt.train import resume_run

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
FORMATS = sorted(int(match[1]) for entry in GOLDEN.iterdir() if (match := re.fullmatch(r"format-(\d+)", entry.name)))
RUNS = [
    (number, name)
    for number in FORMATS
    for name in json.loads((GOLDEN / f"format-{number}" / "logits.json").read_text(encoding="utf-8"))
]


@pytest.fixture
def golden(tmp_path, monkeypatch):
    """The folder of one format, copied, as the current one; nothing that was prepared before is in the cache."""
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()

    def copy(number):
        shutil.copytree(GOLDEN / f"format-{number}", tmp_path / "golden")
        monkeypatch.chdir(tmp_path / "golden")
        return json.loads(Path("logits.json").read_text(encoding="utf-8"))

    yield copy
    torch.set_num_threads(threads)


def logits_of(folder, prompt):
    """Of a checkpoint, at the last position of `prompt`."""
    checkpoint = load_checkpoint(folder)
    tokens = torch.tensor([checkpoint.tokenizer().encode(prompt)])
    with torch.inference_mode():
        return load_model(checkpoint)(tokens)[0, -1]


def test_there_are_runs_of_every_format_up_to_the_current_one():
    assert list(range(1, FORMAT + 1)) == FORMATS
    assert {name for number, name in RUNS if number == FORMAT} == {"gpt2", "modern", "lora", "chat", "labels"}


@pytest.mark.parametrize(("number", "name"), RUNS)
def test_an_old_run_computes_what_it_computed(golden, number, name):
    known = golden(number)[name]
    checkpoint = load_checkpoint(find_checkpoint(Path(name)))
    assert checkpoint.state["step"] == 2 and checkpoint.verb == known["verb"]
    assert torch.allclose(logits_of(checkpoint.folder, known["prompt"]), torch.tensor(known["step 2"]), atol=1e-5)


@pytest.mark.parametrize(("number", "name"), RUNS)
def test_an_old_run_goes_on_to_where_it_would_have_come(golden, number, name):
    """The tolerance is wider here: AdamW divides by the size of a gradient, so that another order of adding shows."""
    known = golden(number)[name]
    before = Run(Path(name)).metrics()
    run = resume_run(Run(Path(name)))
    assert run.steps() == [2, 4]
    assert torch.allclose(
        logits_of(run.checkpoint_folder(4), known["prompt"]), torch.tensor(known["step 4"]), atol=1e-3
    )
    for old, new in zip(before, run.metrics(), strict=True):
        assert old["step"] == new["step"]
        for figure in old.keys() & {"train_loss", "val_loss", "learning_rate", "tokens", "accuracy"}:
            assert new[figure] == pytest.approx(old[figure], rel=1e-3), figure
