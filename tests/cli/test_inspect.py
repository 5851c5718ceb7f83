"""`inspect` and `trace` as a user meets them."""

import io
import os
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from glassgpt.cli.flags import given_text
from glassgpt.cli.main import STANDARD_INPUT
from glassgpt.cli.page import page_file
from glassgpt.errors import ConfigError, TokenizerError
from glassgpt.inspection import subject

from ..command import GOLDEN
from ..inspection.test_look import engine_of

TRAIN = ["train", "song.txt", "--tokenizer", "char", "--context-length", 16, "--n-layer", 2, "--n-head", 2, "--n-embd", 16,
         "--batch-size", 4, "--warmup-steps", 2, "--precision", "float32", "--threads", 1, "--max-steps", 5]  # fmt: skip


def test_a_model_is_looked_into(folder, glassgpt_here):
    assert glassgpt_here(*TRAIN)[0] == 0
    code, out, err = glassgpt_here("inspect", "--prompt", "row your boat")
    assert code == 0, err
    assert out.startswith("row your boat\n") and "written to inspect.html: open it in a browser" in out
    assert (
        "what surprised it most" in out
        and "layer 1, MLP" in out
        and "block" not in out
        and "leaving out each part" in err
    )
    page = (folder / "inspect.html").read_text("utf-8")
    assert '"text":"r"' in page and "</html>" in page
    assert '"probability":' in page
    code, out, err = glassgpt_here(
        "inspect", "runs/song-1/checkpoints/step-00000005", "--out", "other.html"
    )  # it writes the prompt itself
    assert code == 0 and (folder / "other.html").exists(), err
    assert out.startswith("without --prompt, what the model wrote itself:\n")
    assert glassgpt_here("inspect", "--out", "other.html")[0] == 0  # a page of ours is replaced

    assert '"contexts":' in page and '"contexts":0' not in page  # of the validation text, which is in the cache
    assert "neurons that write for" in out and "minimal pair" not in out

    code, out, err = glassgpt_here("inspect", "--prompt", "r")
    assert (
        code == 0 and out.startswith("r\n\nof one token there is no surprise and no loss") and "neurons that" in out
    ), err

    code, out, err = glassgpt_here("report", "--prompt", "r", "--out", "report.html")
    assert code == 0 and "looked into step-00000005 with the text of --prompt" in out, err

    code, out, err = glassgpt_here("trace", "--prompt", "boat")
    assert code == 0 and "written to trace.html" in out, err
    assert "def rotate" in (folder / "trace.html").read_text("utf-8")


def test_the_help_says_how_many_tokens_are_looked_at(glassgpt_here):
    for verb, module in (("inspect", "look"), ("trace", "trace_page")):
        most = import_module(f"glassgpt.inspection.{module}").MOST_TOKENS
        _, out, _ = glassgpt_here(verb, "--help")
        assert f"the last {most} tokens" in " ".join(out.split()) or f"its last {most} tokens" in " ".join(out.split())


@pytest.mark.parametrize(("sent", "read"), [("row\n", "row"), ("row\n\n", "row\n"), ("\n", "\n"), (" ", " ")])
def test_a_prompt_of_standard_input_is_all_but_its_last_line_break_unless_that_is_all(monkeypatch, sent, read):
    monkeypatch.setattr("sys.stdin", io.StringIO(sent))
    assert given_text(STANDARD_INPUT) == read


def test_only_where_nothing_comes_on_standard_input_is_that_said(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(ConfigError, match="nothing came on standard input, which --prompt - reads"):
        given_text(STANDARD_INPUT)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes by name")
@pytest.mark.parametrize("verb", ["inspect", "trace", "report", "compare"])
def test_what_is_no_plain_file_is_not_opened(tmp_path, verb):
    """A pipe would be waited for."""
    os.mkfifo(tmp_path / "pipe")
    for out in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(ConfigError, match=f"--out {out} is no plain file"):
            page_file(out, verb)


def test_pairs_are_probed_with(folder, glassgpt_here):
    assert glassgpt_here(*TRAIN[:-1], 60, "--learning-rate", 0.02)[0] == 0
    code, out, err = glassgpt_here(
        "inspect", "--prompt", "row your boat", "--pair", " do|w", " bo|a", "--pair", " do|a", " bo|w"
    )
    assert code == 0 and "probing with pair 2" in err, err
    known, unknown = out.split("minimal pair")[1:]
    assert " do" in known and "carries" in known and "layer 0, MLP" in known and "%" in known
    assert "Each text prefers its own answer" in known
    assert "It hardly prefers the right answers, if at all: there is nothing to attribute" in unknown
    assert (folder / "inspect.html").read_text("utf-8").count('"differs":') == 2
    code, out, err = glassgpt_here("inspect", "--pair", " do|w", " bo|a", "--pair", "row|,", "you|r")
    assert code == 0 and out.startswith("without --prompt, the first text of --pair:\n do\n\n"), err


def test_a_classifier_is_no_subject_of_inspect_and_reads_what_it_has_letters_for(folder, glassgpt_here, refused_here):
    assert "expects no next token; see what its lines compute: glassgpt trace" in refused_here(
        "inspect", GOLDEN / "labels"
    )
    assert "cannot read 'Hello, I am'; say what it should read: --prompt TEXT" in refused_here(
        "trace", GOLDEN / "labels"
    )


def test_a_token_that_only_pads_the_embedding_can_be_written_and_read(folder, glassgpt_here, monkeypatch):
    engine = engine_of("gpt2", vocab_size=260)  # and the tokenizer has 257
    monkeypatch.setattr(subject, "open_subject", lambda *_: (SimpleNamespace(labels=[]), engine))
    monkeypatch.setattr(subject, "written_tokens", lambda *_: torch.tensor([[114, 258, 111, 119]]))
    monkeypatch.setattr(engine, "encode_prompt", unreadable)
    code, out, err = glassgpt_here("trace")
    assert code == 0 and out.startswith("without --prompt, it read 'row'\n"), err


def unreadable(text):
    raise TokenizerError("of few characters")


def test_what_cannot_be_looked_at_is_said_in_one_line(folder, glassgpt_here, refused_here):
    assert glassgpt_here(*TRAIN)[0] == 0
    for verb in ("inspect", "trace"):
        assert "'Z'" in refused_here(verb, "--prompt", "row Z")
        (folder / "notes.html").write_text("mine")
        assert f"notes.html exists and is no page of glassgpt {verb}; choose another --out" in refused_here(
            verb, "--out", "notes.html"
        )
        assert (folder / "notes.html").read_text() == "mine"
        assert "--out runs is a folder; name a file, such as" in refused_here(verb, "--out", "runs")
        assert "--prompt is empty, and there is nothing to read; give it a text, or leave it out" in refused_here(
            verb, "--prompt", ""
        )
    code, out, _ = glassgpt_here("trace", "--prompt", "row")
    assert code == 0 and "without --prompt" not in out
    code, out, _ = glassgpt_here("trace")  # it has no H for Hello
    assert code == 0 and out.startswith("without --prompt, it read '") and "Hello" not in out
    page = (folder / "trace.html").read_text("utf-8")
    assert "trace.html exists and is no page of glassgpt inspect" in refused_here("inspect", "--out", "trace.html")
    assert (folder / "trace.html").read_text("utf-8") == page
    (folder / "trace.html").unlink()
    for pair, said in (
        (("gen|t",), "--pair takes 2 arguments, it got 1; see glassgpt inspect --help"),
        (("gen|t", "gent"), "'gent' has to be a text, | and the token that should follow"),
        (("gen|t", "ge|e"), "the texts of a pair have to be equally many tokens"),
        (("gen|tl", "row|e"), "'tl' is 2 tokens to this model ([t][l]), an answer has to be one"),
        (("gen|t", "roZ|e"), "'Z'"),
    ):
        assert said in refused_here("inspect", "--pair", *pair)
    assert list(folder.glob("*.html")) == [folder / "notes.html"]
