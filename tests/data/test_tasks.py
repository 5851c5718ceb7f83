"""Records of conversations and labels -> prepared folders, and these -> batches."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.data import IGNORE_INDEX, Examples, load_data, open_corpus, prepare, prepare_cached, summarize
from glassgpt.data.prepare import share_of_commonest
from glassgpt.errors import DataError

END = 256  # of the byte tokenizer


def talk(number, answer=None):
    asked = {"role": "user", "content": f"Question {number}?"}
    said = {"role": "assistant", "content": answer if answer is not None else f"Answer {'x' * (number % 5)}{number}."}
    return {"messages": [asked, said] * (1 + number % 2)}


def text_of(ids):
    return ids.astype(np.uint8).tobytes().decode()


def lines(records):
    return "\n".join(map(json.dumps, records)) + "\n"


@pytest.fixture
def talks(write):
    return write("talks.jsonl", lines(talk(n) for n in range(30)))


@pytest.fixture
def moods(write):
    rows = [f"it was {'good' if n % 3 else 'bad'} {n},{'pos' if n % 3 else 'neg'}" for n in range(40)]
    return write("moods.csv", "text,label\n" + "\n".join(rows))


def rows_of(data, split):
    """(ids, marks) of every document."""
    tokens, marks = np.asarray(getattr(data, split)), np.asarray(getattr(data, f"{split}_marks"))
    starts = getattr(data, f"{split}_documents")[:, 0]
    cuts = [*zip(starts, [*starts[1:], len(tokens)], strict=True)]
    if data.meta.task == "labels":
        return [(tokens[a:b], marks[i]) for i, (a, b) in enumerate(cuts)]
    return [(tokens[a:b], marks[a:b]) for a, b in cuts]


def test_a_prepared_folder_holds_every_conversation_and_what_is_answered(talks, tmp_path):
    data = prepare([str(talks)], tmp_path / "out", "byte")
    assert data.meta.task == "conversations" and data.template().name == "plain"
    seen = []
    for split in ("train", "val"):
        for ids, marks in rows_of(data, split):
            text, answers = text_of(ids[ids < END]), text_of(ids[(marks > 0) & (ids < END)])
            number = int(text.split("Question ")[1].split("?")[0])
            seen.append(number)
            assert text.startswith("### User:\nQuestion ") and text.count("Question") == 1 + number % 2
            assert answers == talk(number)["messages"][1]["content"] * (1 + number % 2)
            assert ids[marks > 0].tolist().count(END) == 1 + number % 2 == ids.tolist().count(END)
    assert sorted(seen) == list(range(30))
    assert load_data(tmp_path / "out", verify=True).meta == data.meta


def test_a_prepared_folder_holds_every_text_and_its_label(moods, tmp_path):
    data = prepare([str(moods)], tmp_path / "out", "byte")
    assert data.meta.task == "labels" and data.meta.labels == ("neg", "pos") and data.template() is None
    rows = rows_of(data, "train") + rows_of(data, "val")
    assert len(rows) == 40 and {int(i) for _, i in rows} == {0, 1}
    for ids, label in rows:
        assert text_of(ids).startswith("it was " + ("good" if label else "bad"))
    val = [int(label) for _, label in rows_of(data, "val")]
    assert data.meta.baseline_accuracy == val.count(1) / len(val)  # pos is the commonest


def test_pairs_and_tables_are_conversations_too(write, tmp_path):
    csv = write("a.csv", "prompt,completion\n" + "\n".join(f"Question {n}?,Answer {n}." for n in range(9)))
    jsonl = write("b.jsonl", lines({"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(9)))
    one, other = (prepare([str(path)], tmp_path / path.stem, "byte") for path in (csv, jsonl))
    everything = [
        sorted(bytes(ids.astype("<u2")) for s in ("train", "val") for ids, _ in rows_of(d, s)) for d in (one, other)
    ]
    assert everything[0] == everything[1]


def test_the_task_follows_from_the_records_unless_it_is_said(talks, moods, write, tmp_path):
    assert prepare([str(moods)], tmp_path / "as-text", "byte", task="text").meta.task == "text"
    story = write("story.jsonl", lines({"text": f"Once {n}."} for n in range(9)))
    mixed = prepare([str(moods), str(story)], tmp_path / "mixed", "byte")
    assert mixed.meta.task == "text" and mixed.meta.documents == 49
    folder = write("folder/a.jsonl", lines(talk(n) for n in range(9))).parent
    assert prepare([str(folder)], tmp_path / "all-talk", "byte").meta.task == "conversations"
    for no_vote in ("logo.png", "none.jsonl", "none.txt"):  # what is skipped decides nothing
        write(f"folder/{no_vote}", b"\0" if no_vote == "logo.png" else "")
    assert prepare([str(folder)], tmp_path / "still-all-talk", "byte").meta.task == "conversations"
    for name, content in (("b.txt", "text " * 50), ("b.csv", "text,label\n" + "x,a\ny,b\n" * 9)):
        other = write(f"folder/{name}", content)
        with pytest.raises(
            DataError, match=f"a.jsonl holds conversations, {name} does not; name one kind of files, or say"
        ):
            prepare([str(folder)], tmp_path / "mixed-up", "byte")
        both = prepare([str(folder)], tmp_path / f"said-{name}", "byte", task="conversations")
        assert both.meta.task == "conversations" and name in [skipped.name for skipped in both.meta.skipped]
        assert "a.jsonl" in [
            s.name for s in prepare([str(folder)], tmp_path / f"t-{name}", "byte", task="text").meta.skipped
        ]
        other.unlink()


def test_where_an_example_ends_is_part_of_the_data(write, tmp_path):
    """The same tokens and marks, cut otherwise."""
    metas = []
    for first, second in (("xx", "x"), ("x", "xx")):
        records = [{"text": first, "label": "a"}, {"text": second, "label": "b"}] * 9
        metas.append(prepare_cached([str(write("a.jsonl", lines(records)))], "byte").meta)
    one, other = metas
    for name in ("train.bin", "val.bin", "train.marks.bin", "val.marks.bin"):
        assert one.files[name] == other.files[name]
    assert one.content_hash != other.content_hash


def test_a_rare_label_is_learned_and_asked(write, tmp_path):
    rows = [f"text {n},{'rare' if n % 16 == 0 else 'common'}" for n in range(64)]
    data = prepare([str(write("a.csv", "text,label\n" + "\n".join(rows)))], tmp_path / "out", "byte")
    assert np.bincount(data.val_marks).tolist() == [6, 1] and np.bincount(data.train_marks).tolist() == [54, 3]


@pytest.mark.parametrize(
    ("content", "task", "said"),
    [
        (lines([talk(1)]), "auto", "there is one conversation only; give at least two"),
        (lines([talk(1), {"messages": []}]), "auto", "a.jsonl, line 2: the assistant says nothing"),
        (lines([talk(1), {"text": "x"}]), "auto", "line 2: no field 'messages', nor 'prompt' and 'completion'"),
        (lines([{"text": "x"}] * 2), "conversations", "line 1: no field 'messages', nor 'prompt' and 'completion'"),
        (
            lines([{"instruction": "x", "output": "y"}]),
            "conversations",
            "rename them (instruction is called prompt here, output is called completion here)",
        ),
        (lines([{"instruction": "x", "output": "y"}]), "auto", "instruction is called prompt here"),
        (lines([{"text": "x", "label": "a"}] * 3), "auto", "every text has the label 'a'"),
        (lines({"text": "x", "label": n} for n in range(3)), "auto", "each of the 3 texts has a label of its own"),
        (lines([{"text": "x"}]), "labels", "line 1: no fields 'text' and 'label'; the fields are 'text'; rename"),
        (lines([{"text": "x", "label": "a"}, {"text": "y", "label": None}]), "auto", "line 2: label must hold a word"),
        (lines([{"text": "x", "label": "a"}, {"text": 5, "label": "b"}]), "auto", "line 2: field 'text' must hold a string"),
        ("text", "labels", 'line 1: not JSON (Expecting value at character 1); each line must be an object such as {"text": '),
        (lines([talk(1)]) + "{", "auto", '("messages": [{"role": "user", "content": "..."}, {"role": "assistant"'[1:]),
        (lines([talk(1), {"id": 1}]), "auto", 'the fields are \'id\'; each record has to be such as {"messages"'),
        (lines([talk(1)] * 2), "text", "it holds conversations, which are learned as such: leave task out"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_said_in_a_line(write, tmp_path, content, task, said):
    path = write("a.jsonl", content)
    with pytest.raises(DataError) as caught:
        prepare([str(path)], tmp_path / "out", "byte", task=task)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_text_holds_no_labels(write, tmp_path):
    with pytest.raises(
        DataError, match=r"a.txt holds no records; labels are read from .jsonl, .ndjson, .csv, .tsv files"
    ):
        prepare([str(write("a.txt", "words"))], tmp_path / "out", "byte", task="labels")


def test_the_same_words_said_by_another_are_other_data(write, tmp_path):
    """Text alone does not tell who speaks, nor what a text is called: the cache must not confuse them."""
    asked = {"role": "user", "content": "a"}
    twice = [asked, {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]
    once = [asked, {"role": "assistant", "content": "b### Assistant:\nc"}]
    pairs = (("a", "b"), ("b", "a"), ("c", "d"))
    labels = [[{"text": "x", "label": one}, {"text": "y", "label": other}] for one, other in pairs]
    prints = []
    for records in ([{"messages": twice}] * 2, [{"messages": once}] * 2, *labels):
        data = prepare_cached([str(write("a.jsonl", lines(records)))], "byte")
        prints += [data.meta.fingerprint, data.meta.content_hash]
    assert len(set(prints)) == len(prints)
    with open_corpus([str(write("a.jsonl", lines([{"messages": twice}] * 2)))]) as one:
        texts = [document.text for document in one]
    with open_corpus([str(write("a.jsonl", lines([{"messages": once}] * 2)))]) as other:
        assert texts == [document.text for document in other]  # so that nothing but the roles told them apart


def test_counting_is_judged_by_the_answers_alone(write, tmp_path):
    """Questions that nobody can foresee cost it nothing, answers that are always the same cost next to nothing."""
    rng = np.random.default_rng(1)
    records = [{"prompt": str(rng.integers(10**15)), "completion": "Always the same answer."} for _ in range(300)]
    data = prepare([str(write("a.jsonl", lines(records)))], tmp_path / "out", "byte")
    assert data.meta.baseline_bits_per_byte < 0.1
    reversed_ = [{"prompt": r["completion"], "completion": r["prompt"]} for r in records]
    data = prepare([str(write("b.jsonl", lines(reversed_)))], tmp_path / "other", "byte")
    assert data.meta.baseline_bits_per_byte > 3


def test_the_commonest_label_is_that_of_training(tmp_path):
    """What always saying it reaches is measured where it was not chosen."""
    for split, labels in (("train", [1, 1, 0, 2]), ("val", [0, 0, 1, 2, 0])):
        np.array(labels, "<u4").tofile(tmp_path / f"{split}.marks.bin")
    assert share_of_commonest(tmp_path) == 1 / 5


def test_the_summary_says_what_is_learned(talks, moods, tmp_path):
    words = " ".join(summarize(prepare([str(talks)], tmp_path / "a", "byte")).facts())
    assert "30 conversations (2" in words and "% of the tokens are answers to learn)" in words
    words = " ".join(summarize(prepare([str(moods)], tmp_path / "b", "byte")).facts())
    assert "40 texts with a label (pos 26, neg 14)" in words and "always saying the commonest label reaches" in words


def examples(path, tmp_path, context_length=300, seed=3, split="train"):
    out = tmp_path / f"data-{path.stem}"
    data = load_data(out) if out.exists() else prepare([str(path)], out, "byte")
    return data, Examples(data, split, context_length, seed)


def test_a_row_is_an_example_and_scores_what_is_to_be_learned(talks, tmp_path):
    data, chosen = examples(talks, tmp_path)
    batch = chosen.batch(0, 6)
    whole = {bytes(ids.astype("<u2")): marks for ids, marks in rows_of(data, "train")}
    for tokens, targets in zip(batch.tokens.numpy(), batch.targets.numpy(), strict=True):
        end = int(np.flatnonzero(targets != IGNORE_INDEX)[-1])  # the last answer's end
        ids = np.append(tokens[: end + 1], targets[end])
        marks = whole[bytes(ids.astype("<u2"))]
        assert targets[: end + 1].tolist() == np.where(marks[1:] > 0, ids[1:].astype(np.int64), IGNORE_INDEX).tolist()
        assert (tokens[end + 1 :] == 0).all()
    assert chosen.tokens_in(0, 6) == sum(int((row != 0).sum()) for row in batch.tokens)


def test_a_labelled_row_scores_its_last_token_alone(moods, tmp_path):
    data, chosen = examples(moods, tmp_path, context_length=10)
    label_of = {bytes(ids[:10].astype("<u2")): int(label) for ids, label in rows_of(data, "train")}
    batch = chosen.batch(0, 8)
    assert batch.tokens.shape == (8, 10)
    for tokens, targets in zip(batch.tokens.numpy(), batch.targets.numpy(), strict=True):
        assert targets[:-1].tolist() == [IGNORE_INDEX] * 9
        assert targets[-1] == label_of[bytes(tokens.astype("<u2"))]


@settings(max_examples=25)
@given(st.integers(0, 2**40), st.integers(2, 9), st.integers(0, 30), st.data())
def test_every_example_comes_once_an_epoch_whoever_reads_it(seed, batch_size, step, data):
    chosen = Examples(prepared["talks"], "train", 300, seed)
    border = data.draw(st.integers(1, batch_size - 1))
    batch = chosen.batch(step, batch_size)
    halves = [chosen.batch(step, batch_size, rows) for rows in (slice(0, border), slice(border, None))]
    assert [key(row) for half in halves for row in half.tokens] == [key(row) for row in batch.tokens]
    count = len(chosen.numbers)
    first = [key(row) for number in range(count) for row in chosen.batch(number, 1).tokens]
    second = [key(row) for row in chosen.batch(1, count).tokens]
    assert len(set(first)) == count and sorted(second) == sorted(first) and second != first


def key(tokens):
    return bytes(tokens[tokens != 0].numpy().astype("<u2"))


prepared = {}  # hypothesis takes no fixture of a smaller scope


@pytest.fixture(autouse=True, scope="module")
def prepared_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    (folder / "talks.jsonl").write_text(lines(talk(n) for n in range(30)))
    prepared["talks"] = prepare([str(folder / "talks.jsonl")], folder / "out", "byte")


def test_validation_sees_every_example_once_the_longest_first(talks, tmp_path):
    data, chosen = examples(talks, tmp_path, split="val")
    for positions in (1, 100, 10_000):
        batches = list(chosen.in_order(positions))
        seen = sorted(key(t) for batch in batches for t in batch.tokens)
        assert seen == sorted(bytes(ids[:-1].astype("<u2")) for ids, _ in rows_of(data, "val"))
        lengths = [batch.tokens.shape[1] for batch in batches]
        assert lengths == sorted(lengths, reverse=True)
        assert all(batch.tokens.numel() <= max(positions, batch.tokens.shape[1]) for batch in batches)


def test_what_is_longer_than_the_context_is_cut_and_what_has_no_answer_left_is_left_out(write, tmp_path):
    short, long_answer = talk(0), {"prompt": "Q", "completion": "y" * 100}
    long_question = {"prompt": "z" * 100, "completion": "never reached"}
    path = write("a.jsonl", lines([short, long_answer, long_question] * 12))
    data, chosen = examples(path, tmp_path, context_length=60)
    texts = [text_of(ids[ids < END]) for ids, _ in rows_of(data, "train")]
    long = sum("yyy" in text for text in texts)
    gone = sum("zzz" in text for text in texts)
    assert long and gone and chosen.cut == long + gone and chosen.left_out == gone
    batch = chosen.batch(0, len(chosen.numbers))
    assert batch.tokens.shape[1] == 60
    assert not any((row == ord("z")).any() for row in batch.tokens)
    with pytest.raises(DataError, match="none of .* conversations for training has an answer within context_length 20"):
        Examples(data, "train", 20, seed=1)


def test_where_exactly_the_context_ends(write, tmp_path):
    """context_length tokens are read, and one more is a target."""
    records = [{"prompt": "Q" * n, "completion": "abc"} for n in range(1, 12) for _ in range(4)]
    path = write("a.jsonl", lines(records))
    framed = len("### User:\n" + "\n\n" + "### Assistant:\n")
    data, _ = examples(path, tmp_path)
    lengths = [len(ids) for ids, _ in rows_of(data, "train")]
    whole = framed + 5 + len("abc") + 1  # of five letters
    chosen = Examples(data, "train", whole - 1, seed=1)
    assert chosen.cut == sum(length > whole for length in lengths)
    assert chosen.left_out == sum(
        length - 4 > whole - 1 for length in lengths
    )  # its answer begins after the last target
    assert 0 < chosen.left_out < chosen.cut < len(lengths)


def test_other_rows_and_the_filling_do_not_matter_to_a_row(talks, tmp_path):
    """A model looks back only: what fills a row up changes nothing in it."""
    from glassgpt.config import GPTConfig
    from glassgpt.model import build_model
    from glassgpt.train.loss import plain_loss

    _, chosen = examples(talks, tmp_path)
    model = build_model(GPTConfig(vocab_size=257, context_length=300, n_layer=2, n_head=2, n_embd=16), seed=2).double()
    together = plain_loss(model, chosen.batch(0, 5))
    apart = sum(plain_loss(model, chosen.batch(i, 1)) for i in range(5))
    assert torch.allclose(together, apart, rtol=1e-12)
