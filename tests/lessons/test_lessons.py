"""Every lesson runs, prints what it says, and draws its figure."""

import ast
import json
import math
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import matplotlib.image
import pytest
import torch

from glassgpt.errors import TokenizerError

LESSONS = Path(__file__).resolve().parents[2] / "lessons"
FILES = sorted(LESSONS.glob("[0-9]*.py"))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A lesson by its number: what it printed, and its variables."""
    monkeypatch.chdir(tmp_path)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    matplotlib.use("agg")

    def play(number):
        (file,) = LESSONS.glob(f"{number:02}_*.py")
        torch.set_num_threads(1)
        names = runpy.run_path(str(file), run_name="__main__")
        picture = matplotlib.image.imread(tmp_path / "figures" / f"{file.stem}.png")
        assert picture.shape[0] > 200 and picture.std() > 0.01  # not an empty page
        return capsys.readouterr().out, names

    yield play
    torch.set_num_threads(threads)
    torch.set_rng_state(state)
    matplotlib.pyplot.close("all")


def number_after(text, printed):
    return float(re.search(re.escape(text) + r"\s*([-+]?[\d.,]+(?:e[-+]\d+)?)", printed)[1].replace(",", ""))


def test_there_are_twelve_and_each_fits_on_a_page():
    assert [file.name[:2] for file in FILES] == [f"{n:02}" for n in range(1, 13)]
    for file in FILES:
        lines = file.read_text("utf-8").splitlines()
        assert (
            len(lines) < 120 and lines[0] == "# %% [markdown]" and lines[1].startswith(f"# # {int(file.name[:2])}. ")
        ), file


def test_1_configuration(run):
    printed, names = run(1)
    times = {what: count.total / names["plain"].total for what, count in names["counts"].items()}
    assert times["n_head x 2"] == 1 and times["untied"] > 1.3 > times["context_length x 2"] > 1
    assert 2 < times["n_embd x 2"] < 4 and re.search(r"n_embd x 2 +418,748,928   3.37 x", printed)
    assert "as it is                 124,439,808 parameters, 475 MiB in float32" in printed
    assert "n_head 7: n_embd 768" in printed
    assert "173,946,175,488 173,956,792,320" in printed


def test_2_placeholder(run):
    printed, names = run(2)
    assert "(2, 5, 768)" in printed and "(2, 5, 50257)" in printed and len(names["shapes"]) == 4
    assert "changes the scores after the others: False" in printed
    assert number_after("the likeliest next token has", printed) == pytest.approx(1e-3, rel=0.5)  # "a thousandth"


def test_3_layer_norm(run):
    printed, names = run(3)
    assert names["normed"].mean(dim=-1).abs().max() < 1e-6
    assert number_after("largest difference from torch's:", printed) < 1e-6
    assert number_after("from the model's own:", printed) < 1e-6
    assert "instead of N: tensor([1.2000, 1.2000])" in printed
    assert names["mean"].shape == (2, 1) and "mean over dim=0, a number a feature:   tensor([0.2196" in printed
    assert "with eps tensor([0., 0., 0., 0., 0., 0.])\n" in printed and "without it tensor([nan" in printed
    assert names["spreads"]["without"][-1] > 100 and names["spreads"]["with layer norm"][-1] < 2
    assert "alone and beside the second: the same" in printed and number_after("they differ by up to", printed) > 0.05


def test_4_gelu_and_mlp(run):
    printed, _ = run(4)
    assert number_after("our erf form against torch's:", printed) < 1e-15
    assert number_after("our tanh form against torch's:", printed) < 1e-15
    assert 1e-4 < number_after("the two forms apart:", printed) < 1e-3
    assert "(2, 3, 768) -> (2, 3, 3072) -> (2, 3, 768)" in printed and "4,722,432 parameters" in printed
    assert number_after("by hand against the model's own:", printed) < 1e-5
    assert "lowest at x = -0.75, where it is -0.170" in printed and "changes the others: False" in printed


def test_5_attention(run):
    printed, names = run(5)
    assert "itself only: [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]" in printed
    assert number_after("by hand against attention.py:", printed) < 1e-6
    assert number_after("three heads by hand against model/gpt2.py:", printed) < 1e-6
    assert number_after("fused against explicit:", printed) < 1e-6
    assert number_after("largest share at width 768:", printed) > 0.99 > 0.6 > number_after("by the root:", printed)
    assert "changes the positions [5], and no earlier one" in printed
    assert not names["masked"].triu(1).any()


def test_6_residual(run):
    printed, names = run(6)
    without, with_ = names["gradients"]["without"], names["gradients"]["with"]
    assert without[-1] / without[0] > 4 * with_[-1] / with_[0] and max(without) < min(with_)
    assert without[0] == pytest.approx(2.017e-4, rel=0.01) and with_[0] == pytest.approx(0.2219, rel=0.01)
    by_block = names["by_block"]
    assert by_block["no residual"][0] < by_block["no residual"][-1] / 1000  # less at every block on the way back
    assert all(max(by_block[name]) < 2 * min(by_block[name]) for name in ("pre-norm", "post-norm"))
    ends = {trial: sum(losses[-10:]) / 10 for trial, losses in names["curves"].items()}
    by_frequency = names["by_frequency"]
    assert ends["pre-norm", 3e-3, 0] < by_frequency - 0.2 and ends["post-norm", 3e-3, 0] < by_frequency - 0.2
    assert min(ends["no residual", 3e-3, 0], ends["post-norm", 8e-3, 0]) > by_frequency - 0.1
    assert ends["pre-norm", 3e-3, 0] < ends["pre-norm", 8e-3, 0] < ends["post-norm", 8e-3, 0] - 0.1
    assert ends["post-norm", 8e-3, 120] < by_frequency - 0.3  # what a warmup is good for
    assert "layer by layer" in printed


def test_7_model(run):
    printed, _ = run(7)
    assert number_after("our block against model/gpt2.py's:", printed) < 1e-6
    assert number_after("the whole by hand:", printed) < 1e-5
    assert "the book's variant: 163,009,536 parameters, 621.83 MiB" in printed
    assert "GPT-2 as published: 124,439,808" in printed and "without it 124,412,160" in printed
    for size, total in (("medium", "354,823,168"), ("large", "774,030,080"), ("xl", "1,557,611,200")):
        assert re.search(rf"gpt2-{size} .* {total} ", printed)


def test_8_generation(run):
    printed, names = run(8)
    lines = [line for line in printed.splitlines() if re.match(r"\d: \[", line)]
    assert len(lines) == 7 and lines[0] == "0: [15496, 11, 314, 716] 'Hello, I am'"
    for before, after in pairwise(lines):
        assert ast.literal_eval(after[3 : after.index("]") + 1])[:-1] == ast.literal_eval(
            before[3 : before.index("]") + 1]
        )
    drawn = names["drawn"]
    assert (drawn["top-k 3"] > 0).sum() <= 3 and drawn["temperature 0.1"][3] > 980
    assert drawn["temperature 5"].min() > 20 and all(counts.sum() == 1000 for counts in drawn.values())
    assert drawn["greedy"][3] == 1000 and (drawn["nucleus 0.9"] > 0).sum() == 2
    assert names["probabilities"].max() < 5 / names["config"].vocab_size  # it babbles: no token stands out
    start = len(names["prompt"][0])
    assert names["positions"] == {"without": sum(range(start, start + 60)), "with": start + 59}
    assert "the same tokens: True" in printed


def test_8_does_without_gpt2s_vocabulary(run, monkeypatch):
    def missing(name):
        raise TokenizerError("not on this machine")

    monkeypatch.setattr("glassgpt.tokenizer.ready_tokenizer", missing)
    printed, names = run(8)
    assert "not on this machine\nuntil then every byte is a token" in printed and names["config"].vocab_size == 257
    assert printed.count("[72, 101, 108, 108, 111, 44, 32, 73, 32, 97, 109") == 7


def test_9_training(run):
    printed, names = run(9)
    by_hand, torchs = re.search(r"by hand ([\d.]+), torch's ([\d.]+)", printed).groups()
    assert by_hand == torchs
    checks = names["checks"]
    assert names["loss_on"](names["train_ids"]) == checks[-1][1] < checks[0][1] / 3
    assert math.log(names["config"].vocab_size) == pytest.approx(checks[0][1], rel=0.05)
    assert 0 < names["best_step"] < checks[-1][0] and names["best"] < checks[-1][2] - 0.1  # it rises again
    assert f"validation is best at step {names['best_step']}: " in printed
    assert names["rates"][19] == max(names["rates"]) and names["rates"][-1] < 0.01 * max(names["rates"])


def test_10_induction_heads(run):
    printed, names = run(10)
    assert names["losses"][-1] < names["losses"][0] / 3
    assert names["induction"][-1][names["best"]] > 0.8 > 0.15 > max(names["induction"][0])
    assert names["best"] >= 2 > names["before"]  # the second layer builds on the first
    lost, whole = names["lost"], names["whole"]
    assert min(lost[names["before"]], names["both"]) > whole + 1 and max(lost[2:]) < whole + 0.2
    assert re.search(r"layer 0, head \d looks at the token before .*\nlayer 1, head \d is an induction head", printed)


def test_11_scaling_law(run):
    printed, names = run(11)
    assert names["FORECAST"] not in names["LADDER"] and len(names["sizes"]) == len(names["LADDER"]) == 5
    assert -0.5 < names["slope"] < -0.02 and names["largest_miss"] < 0.05
    assert abs(names["law"](names["size"]) / names["loss"] - 1) < 0.05
    assert (
        names["loss"] < min(names["losses"]) * 0.95
    )  # to say "as good as the largest so far" would be a worse forecast
    assert f"forecast {names['law'](names['size']):.3f}, measured {names['loss']:.3f}" in printed


def test_12_byte_pair_encoding(run):
    printed, names = run(12)
    assert "rules alike: 120 of 120" in printed and "in the same pieces: True" in printed
    assert b"".join(names["encode"]("Grüße aus Köln", names["rules"])).decode() == "Grüße aus Köln"
    assert names["lengths"] == sorted(names["lengths"]) and names["lengths"][0] == 1


def test_as_notebooks(tmp_path):
    command = [sys.executable, str(LESSONS / "as_notebooks.py")]
    out = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert len(out.splitlines()) == 12
    for file in FILES:
        notebook = json.loads((tmp_path / "notebooks" / f"{file.stem}.ipynb").read_text("utf-8"))
        kinds = [cell["cell_type"] for cell in notebook["cells"]]
        source = file.read_text("utf-8")
        assert kinds[0] == "markdown" and "code" in kinds and len(kinds) == len(re.findall(r"^# %%", source, re.M))
        prose = "".join(c["source"] for c in notebook["cells"] if c["cell_type"] == "markdown")
        sections = re.findall(r"^# %% \[markdown\]\n((?:#.*\n)+)", source, re.M)
        assert prose.replace("\n", "") == "".join(re.sub(r"^# ?", "", s, flags=re.M) for s in sections).replace(
            "\n", ""
        )
        code = "\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code")
        statements = lambda text: [ast.dump(node) for node in ast.parse(text).body]  # noqa: E731
        assert statements(code) == statements(source)
