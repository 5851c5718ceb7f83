"""Conversations and labels from the command line: chat and classify."""

import io
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys

import pytest

from glassgpt.cli.confusion import confusion_of, confusion_table
from glassgpt.data import prepare

from ..command import glassgpt

SIZES = [
    "--tokenizer", "byte", "--context-length", "48", "--n-layer", "1", "--n-head", "2", "--n-embd", "16",
    "--batch-size", "4", "--warmup-steps", "2", "--max-steps", "60", "--learning-rate", "0.02",
    "--precision", "float32", "--threads", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs, of conversations and of labels."""
    folder = tmp_path_factory.mktemp("runs")
    draw = random.Random(1)
    talks = [{"prompt": f"{draw.randrange(99)}?", "completion": "Yes."} for _ in range(60)]
    moods = [{"text": draw.choice(["sun", "rain"])} for _ in range(60)]
    moods = [row | {"label": "good" if row["text"] == "sun" else "bad"} for row in moods]
    for name, records in (("talks", talks), ("moods", moods)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
        code, _, err = glassgpt(folder, "train", f"{name}.jsonl", "--out", name, *SIZES)
        assert code == 0, err
        (folder / f"{name}.txt").write_text(err)
    return folder


@pytest.fixture
def folder(runs):
    return runs


def test_training_shows_an_answer_and_says_what_to_do_next(runs):
    shown = (runs / "talks.txt").read_text()
    assert "60 conversations" in shown and "### Assistant:\nYes." in shown and "glassgpt chat talks" in shown
    shown = (runs / "moods.txt").read_text()
    assert "60 texts with a label" in shown and "nats a text, 100.0% right" in shown
    assert "glassgpt classify moods" in shown and "says bad" in shown and "always the commonest label" in shown


def test_chat_answers_what_is_asked(glassgpt_here):
    assert glassgpt_here("chat", "talks", "--prompt", "12?", "--temperature", "0") == (0, "Yes.\n", "")


def test_chat_answers_each_line_of_a_pipe(runs):
    code, out, err = glassgpt(runs, "chat", "talks", "--temperature", "0", stdin="1?\n\n22?\n")
    assert (code, out, err) == (0, "Yes.\nYes.\n", "")


def shown_until(terminal, words):
    """What a terminal shows until `words` appear in it."""
    seen = ""
    while words not in seen:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, seen
        seen += os.read(terminal, 1000).decode()
    return seen


@pytest.mark.skipif(os.name == "nt", reason="a terminal of Unix")
def test_chat_in_a_terminal_asks_until_it_is_left(runs):
    import pty

    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "glassgpt", "chat", "talks", "--temperature", "0"],
        cwd=runs, stdin=end, stdout=end, stderr=end,
    ) as process:  # fmt: skip
        os.close(end)
        shown_until(terminal, "you: ")
        os.write(terminal, b"12?\n")
        assert "Yes." in shown_until(terminal, "\nyou: ")
        os.write(terminal, b"\x04")
        assert process.wait(60) == 0
    os.close(terminal)


def test_classify_tells_texts_apart(glassgpt_here):
    code, out, err = glassgpt_here("classify", "moods", "--text", "sun", "--text", "rain")
    rows = [line.split("\t") for line in out.splitlines()]
    assert (code, err) == (0, "") and [(label, text) for label, _, text in rows] == [("good", "sun"), ("bad", "rain")]
    assert all(0.5 < float(share) <= 1 for _, share, _ in rows)


def test_classify_judges_by_labels_that_are_there(folder, glassgpt_here):
    code, out, _ = glassgpt_here("classify", "moods")
    assert code == 0 and "100.0% of its validation texts right" in out and "says good" in out
    (folder / "test.csv").write_text("text,label\nsun,good\nsun,good\nrain,good\n")
    code, out, _ = glassgpt_here("classify", "moods", "--data", "test.csv", "--text", "rain")
    assert code == 0 and "66.7% of 3 texts right" in out
    (row,) = [line.split() for line in out.splitlines() if line.lstrip().startswith("good")]
    assert row == ["good", "1", "2", "66.7%"]
    assert out.splitlines()[-1].startswith("bad\t") and out.count("\t") == 2
    (folder / "bare.csv").write_text("text,more\nsun,1\nrain,2\n")
    code, out, _ = glassgpt_here("classify", "moods", "--data", "bare.csv")
    assert code == 0 and [line.split("\t")[0] for line in out.splitlines()] == ["good", "bad"]


def test_classify_reads_lines(runs):
    code, out, _ = glassgpt(runs, "classify", "moods", "--text", "-", stdin="sun\n\n rain \n")
    assert code == 0 and [line.split("\t")[0] for line in out.splitlines()] == ["good", "bad"]


def test_trace_shows_what_a_classifier_computes(folder, glassgpt_here):
    code, out, err = glassgpt_here("trace", "moods", "--prompt", "sun", "--out", "moods.html")
    assert code == 0 and "written to moods.html" in out, err
    page = (folder / "moods.html").read_text("utf-8")
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    lines = [
        line for file in json.loads(data)["files"] for line in file["lines"] if "self.score(hidden)" in line["source"]
    ]
    assert [value["shape"] for value in lines[0]["runs"][0]["values"]] == [
        [1, 3, 2]
    ]  # two labels, at each of three characters


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("inspect", "moods"),
            "tells labels apart and expects no next token; see what its lines compute: glassgpt trace moods/",
        ),
        (("chat", "moods"), "tells labels apart and answers no questions"),
        (("sample", "moods"), "tells labels apart and writes no text; use: glassgpt classify moods/"),
        (("classify", "talks"), "was not trained on labels; teach it: glassgpt train TEXTS.csv --from talks/"),
        (("classify", "moods", "--text", ""), "text 1 is empty"),
        (("classify", "moods", "--data", "talks.jsonl"), "talks.jsonl holds conversations, no texts to label"),
        (("classify", "moods", "--data", "other.csv"), "the label 'ugly' is none that the model knows (bad, good)"),
        (("classify", "moods", "--data", "gone.csv"), "gone.csv does not exist"),
        (("chat", "talks", "--temperature", "-1"), "temperature is -1.0"),
        (("chat", "talks", "--prompt", "x" * 60), "the message takes 87 tokens, the model sees 48 at once"),
        (("train", "moods.jsonl", "--task", "conversations"), "no field 'messages', nor 'prompt' and 'completion'"),
        (("train", "moods.jsonl", "--task", "label"), "labels"),
    ],
)
def test_what_cannot_be_is_one_line(folder, refused_here, arguments, said):
    (folder / "other.csv").write_text("text,label\nsun,good\nfog,ugly\n")
    assert said in refused_here(*arguments)


def test_the_same_question_gets_another_answer_each_time(glassgpt_here, monkeypatch):
    """As `sample` says of its seed: another seed, another text."""
    seeds = []

    class Parrot:
        def say(self, question, **settings):
            seeds.append(settings["seed"])
            yield question

    monkeypatch.setattr("glassgpt.generate.load_chat", lambda *given: Parrot())
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
    assert glassgpt_here("chat", "talks", "--seed", "5") == (0, "a\nb\n", "")
    assert seeds == [5, 6]


def test_the_sample_of_training_is_asked_a_whole_question(runs, tmp_path):
    from glassgpt.cli.display import first_question

    data = prepare([str(runs / "talks.jsonl")], tmp_path / "data", "byte")
    asked = data.tokenizer().decode(first_question(data))
    assert asked.startswith("### User:\n") and asked.endswith("\n\n### Assistant:\n") and asked.count("###") == 2


def test_who_types_too_much_can_say_it_otherwise(glassgpt_here, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    typed = iter(["x" * 60, "12?"])

    def type_next(prompt):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", type_next)
    code, out, err = glassgpt_here("chat", "talks", "--temperature", "0")
    assert code == 0 and out.split() == ["Yes."]
    assert err.startswith("glassgpt: the message takes") and err.count("\n") == 1


def test_of_a_model_that_lies_in_no_run_nothing_is_known(folder, refused_here):
    shutil.copytree(next((folder / "moods/checkpoints").glob("step-*")), folder / "alone", dirs_exist_ok=True)
    assert refused_here("classify", "alone").startswith(
        "nothing is known of the validation of alone; judge it by texts"
    )


def test_of_many_labels_the_mistakes_are_listed():
    labels = [f"label {n}" for n in range(20)]
    true = [labels[n % 20] for n in range(200)]
    said = [labels[(n + (n % 20 == 3)) % 20] for n in range(200)]
    counts = confusion_of(true, said, labels)
    assert counts.sum() == 200 and counts[3, 4] == 10 and counts.trace() == 190
    table = confusion_table(labels, counts)
    assert table.row_count == 1 and [str(c._cells[0]) for c in table.columns] == ["label 3", "label 4", "10"]
