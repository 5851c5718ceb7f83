"""`plan` as a user meets it."""

import io
import json
import re

import pytest
from rich.console import Console

from glassgpt.cli.costs import in_short, machines, notes, roughly, size
from glassgpt.cli.plan import number_of_tokens
from glassgpt.errors import ConfigError

from ..command import GOLDEN

TINY = ["--n-layer", 2, "--n-head", 2, "--n-embd", 32, "--context-length", 32, "--batch-size", 4]


def test_a_plan_says_what_a_model_is_made_of_and_takes(folder, glassgpt_here):
    before = list(folder.iterdir())
    code, out, err = glassgpt_here("plan", "--preset", "gpt2", *TINY, "--tokens", "2M")
    assert code == 0, err
    assert "block, 2 times" in out and "token embedding" in out and "rule of thumb" in out
    assert re.search(r"here, \d+ thread", out) and "2M tokens are what was asked for" in out
    assert "GPUs are estimates throughout" in out and "H100" in out
    assert list(folder.iterdir()) == before  # nothing is written


def test_one_json_object(folder, glassgpt_here):
    code, out, err = glassgpt_here("plan", "--preset", "gpt2", *TINY, "--json")
    found = json.loads(out)
    assert code == 0 and err == ""
    assert found["shape"]["n_embd"] == 32 and found["machines"][0]["measured"]
    code, out, _ = glassgpt_here("plan", "--compare", "gpt2", "gpt2-xl", "--json")
    assert [model["preset"] for model in json.loads(out)["models"]] == ["gpt2", "gpt2-xl"]


def test_the_settings_of_a_run_are_planned_from_its_file(folder, glassgpt_here, refused_here):
    train = ["train", "song.txt", "--tokenizer", "char", *TINY, "--max-steps", 2, "--warmup-steps", 1, "--threads", 1]
    assert glassgpt_here(*train)[0] == 0
    with_preset = refused_here("plan", "--preset", "baby", "--config", "runs/song-1/config.toml")
    assert "the file says every setting, so that preset baby would change nothing" in with_preset
    code, out, err = glassgpt_here("plan", "--config", "runs/song-1/config.toml", "--json")
    assert code == 0, err
    run = json.loads((folder / "runs/song-1/result.json").read_text())
    assert json.loads(out)["parameters"]["total"] == run["parameters"]


def test_a_plan_of_short_texts_says_that_they_are_counted_as_long(folder, glassgpt_here):
    said = "counted as if it filled the context"
    for kind, is_said in (("labels", True), ("gpt2", False)):
        code, out, err = glassgpt_here("plan", "--config", GOLDEN / kind / "config.toml")
        assert code == 0 and (said in out) is is_said, err
        assert ("≤ " in out) is is_said


def test_a_steps_operations_have_a_unit_that_shows_them(folder, glassgpt_here):
    """Of a toy they are 0.00 TFLOP."""
    for flags, unit in ((TINY, "GFLOP"), ([], "TFLOP")):
        _, out, _ = glassgpt_here("plan", "--preset", "gpt2", "--micro-batch-size", 1, *flags)
        each = re.search(rf"^forward +[\d,.]+ MFLOP +([\d,.]+) {unit}", out, re.M)
        assert each and float(each[1].replace(",", "")) > 0


def test_embeddings_of_n_grams_have_a_row_of_their_own(folder, glassgpt_here):
    _, out, _ = glassgpt_here("plan", "--preset", "char-cpu", "--n-gram", 3, "--n-gram-rows", 500, "--n-embd", 32)
    assert re.search(r"^n-gram embeddings +32,000 ", out, re.M) and re.search(r"^token embedding +2,080 ", out, re.M)


HERE = {
    "micro_batch_size": 4, "replicas": 1, "precision": "bfloat16", "fits": True, "gains": {}, "measured": True, "name": "here",
    "needed": 1 << 30, "memory": 1 << 34, "tokens_per_second": 100.0, "seconds": 60.0, "is_bound": False,
}  # fmt: skip
GPU = HERE | {"name": "GPU", "measured": False}
COSTS = {
    "task": "text", "machines": [HERE, GPU], "tokens": 6000, "tokens_of": "the run's own",
    "shape": {"n_embd": 512, "vocab_size": 65}, "vocabulary_guessed": False, "sized_for_minutes": None, "advice": [],
    "short_below": None, "tokens_a_step": 6000,
}  # fmt: skip


def shown(costs):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(machines(costs))
    return console.export_text()


@pytest.mark.parametrize(("gain", "is_close"), [(1.0, False), (1.08, True), (1.2, True), (1.3, False)])
def test_a_choice_that_was_close_is_said_to_be(gain, is_close):
    said = [
        note for note in notes(COSTS | {"machines": [HERE | {"gains": {"replicas": gain}}, GPU]}) if "close" in note
    ]
    assert len(said) == is_close
    assert not is_close or (f"replicas ran at {gain:.2f} x the speed of one model" in said[0] and "1.15 x" in said[0])


def test_a_single_token_is_one():
    assert any(
        note.startswith("1 token is what was") for note in notes(COSTS | {"tokens": 1, "tokens_of": "what was asked"})
    )
    assert "1 token  " in shown(COSTS | {"tokens": 1}) + "  " and "1 tokens" not in shown(COSTS | {"tokens": 1})


def test_fewer_tokens_than_a_step_takes_are_said_to_be_a_step():
    assert not any("at least a step" in note for note in notes(COSTS))
    (said,) = [note for note in notes(COSTS | {"tokens": 5999}) if "at least a step" in note]
    assert "6,000 tokens" in said


def test_how_short_a_text_may_be_is_said():
    assert not any("sooner" in note for note in notes(COSTS))
    said = [" ".join(notes(COSTS | {"short_below": 123_000, "sized_for_minutes": minutes})) for minutes in (None, 2.0)]
    assert "A text of less than about 123K tokens ends sooner than these minutes" in said[0]
    assert (
        "what 2 minutes here are worth for a long text; one of less than about 123K tokens takes a smaller" in said[1]
    )
    (size,) = [note for note in notes(COSTS | {"sized_for_minutes": 2.0}) if "smaller" in note]
    assert "worth for a long text; a short one takes a smaller model, or ends sooner" in size


def test_of_a_small_model_a_gpu_row_is_a_bound_and_no_estimate():
    """By its operations alone a toy takes a second, and no GPU gets through its steps in that time."""
    gpu = GPU | {"seconds": 0.4, "tokens_per_second": 2e6}
    for is_bound, speed, seconds in ((False, "~2M", "~0.4 seconds"), (True, "< 2M", "> 0.4 seconds")):
        costs = COSTS | {"machines": [HERE, gpu | {"is_bound": is_bound}]}
        row = next(line for line in shown(costs).splitlines() if line.startswith("GPU"))
        assert re.search(rf"  {speed}  +{seconds}", row), row
        assert any("keeps none of them busy" in note for note in notes(costs)) is is_bound
    here = next(line for line in shown(costs).splitlines() if line.startswith("here"))
    assert ">" not in here and "~" not in here


def test_the_family(folder, glassgpt_here):
    code, out, _ = glassgpt_here("plan", "--compare")
    assert code == 0
    for shown in ("124,439,808", "163,037,184", "174,604,259,328", "117M", "345M", "~9B"):
        assert shown in out


def test_a_vocabulary_that_is_a_guess_is_marked_in_the_family(folder, glassgpt_here):
    _, out, _ = glassgpt_here("plan", "--compare", "gpt2", "baby")
    assert re.search(r"^baby +~[\d,]+ +~[\d,]+ +[\d,]+", out, re.M) and "~ at baby: the vocabulary" in out
    assert re.search(r"^gpt2 +124,439,808 +163,037,184", out, re.M)


def test_what_is_no_plan_is_refused_in_one_line(folder, refused_here):
    assert "'3x' is no number of tokens between 1 and 1e18; say it as 300M" in refused_here("plan", "--tokens", "3x")
    assert "preset 'nope' is not known" in refused_here("plan", "--preset", "nope")
    assert "preset 'nope' is not known" in refused_here("plan", "--compare", "gpt2", "nope")
    assert "preset 'gpt2' is named twice" in refused_here("plan", "--compare", "gpt2", "mini", "gpt2")
    assert "--compare takes presets, such as --compare gpt2 mini, and nothing beside them" in refused_here(
        "plan", "--compare", "gpt2", "--n-layer", 3
    )
    assert "does not divide" in refused_here("plan", "--n-embd", 7)
    assert "--vocab-size" in refused_here("plan", "--tokenizer", "some/tokenizer.json")


@pytest.mark.parametrize(
    ("text", "number"),
    [("10B", 1e10), ("300m", 3e8), ("2.5e9", 2.5e9), ("1_000", 1e3), ("1,500K", 1.5e6), ("1T", 1e12)],
)
def test_numbers_of_tokens_as_people_write_them(text, number):
    assert number_of_tokens(text) == number


@pytest.mark.parametrize("text", ["x", "", "-3M", "0", "1e30", "5 apples", "M", "nan", "1e400"])
def test_what_is_none(text):
    with pytest.raises(ConfigError, match="no number of tokens"):
        number_of_tokens(text)


def test_numbers_as_people_read_them():
    assert (size(3 * 2**20), size(5 * 2**30), size(2.5 * 2**40)) == ("3.0 MiB", "5.00 GiB", "2.50 TiB")
    assert (size(2**50), size(3 * 2**60)) == ("1.00 PiB", "3.00 EiB")
    assert (in_short(4.92e9), in_short(1e12), in_short(950)) == ("4.92B", "1T", "950")
    assert (in_short(999_936), in_short(999.7), in_short(1e16), in_short(12.34)) == ("1M", "1K", "1e+16", "12.3")
    assert roughly(0.042) == "a moment"
    assert (roughly(5), roughly(600), roughly(86400 * 3), roughly(86400 * 4000)) == (
        "5.0 seconds", "10.0 minutes", "3.0 days", "11.0 years",
    )  # fmt: skip
