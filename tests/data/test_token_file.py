"""A prepared folder that is damaged is never read: each message names the file."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from glassgpt.data import folder as opened
from glassgpt.data import load_data, prepare
from glassgpt.data.meta import file_meta, token_dtype
from glassgpt.data.token_file import TokenFileWriter
from glassgpt.errors import DataError
from glassgpt.tokenizer import build_tokenizer


@pytest.fixture
def folder(write, tmp_path):
    path = write("poem.txt", "Tyger Tyger, burning bright,\nIn the forests of the night\n" * 5)
    return prepare([os.fspath(path)], tmp_path / "data", "byte").path


def change_meta(folder, **fields):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | fields))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_a_table_of_documents_without_room_says_so(tmp_path):
    """numpy's own error would not: it has no number."""
    writer = TokenFileWriter(tmp_path, "train", build_tokenizer("byte", lambda: iter(()), None, False))
    writer.documents_path = Path("/dev/full")
    with pytest.raises(OSError, match="No space left on device"), writer:
        writer.add(np.arange(5), 5, starts_document=True)


def test_a_folder_without_meta_was_never_finished(folder):
    (folder / "meta.json").unlink()
    with pytest.raises(
        DataError, match=r"data is no prepared folder: there is no meta\.json in it; run `glassgpt prep"
    ):
        load_data(folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "5", '{"format_version": 1}', '{"format_version": 1, "train": 3}', "\xff"]
)
def test_a_damaged_meta(folder, content):
    (folder / "meta.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=r"meta\.json is damaged: .*; delete .*data and prepare the text again"):
        load_data(folder)


def test_another_version_is_named(folder):
    change_meta(folder, format_version=99)
    with pytest.raises(DataError, match=r"meta\.json is of format 99, this GlassGPT reads 1; prepare the text again"):
        load_data(folder)


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "train.documents.npy", "val.documents.npy", "tokenizer.json"])
def test_each_file_is_checked(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    with pytest.raises(
        DataError, match=rf"{name} is damaged: it has {len(whole) - 1} bytes, {len(whole)} were written"
    ):
        load_data(folder)
    (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=rf"{name} is damaged: its sha256 differs"):
        load_data(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is damaged: it is missing"):
        load_data(folder)


def test_huge_files_are_hashed_on_request_only(folder, monkeypatch):
    monkeypatch.setattr(opened, "CHECKED_BYTES", 100)
    whole = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    load_data(folder)
    with pytest.raises(DataError, match=r"train\.bin is damaged"):
        load_data(folder, verify=True)


def test_a_meta_that_contradicts_its_files(folder):
    meta = json.loads((folder / "meta.json").read_text())
    change_meta(folder, train=meta["train"] | {"tokens": 7})
    with pytest.raises(DataError, match=r"meta\.json is damaged: it says 7 train tokens, there are"):
        load_data(folder)
    change_meta(folder, train=meta["train"], vocab_size=70_000)
    with pytest.raises(DataError, match=r"dtype '<u2' does not fit vocab_size 70000"):
        load_data(folder)
    change_meta(folder, vocab_size=257, files={"../secret": {"bytes": 1, "sha256": ""}})
    with pytest.raises(DataError, match="it must list exactly"):
        load_data(folder)


def test_the_dtype_holds_every_id():
    assert token_dtype(65_536) == np.dtype("<u2")
    assert token_dtype(65_537) == np.dtype("<u4")
    with pytest.raises(DataError, match="does not fit into 32 bits"):
        token_dtype(2**32 + 1)


def test_an_id_outside_the_vocabulary_is_refused(tmp_path):
    with (
        TokenFileWriter(tmp_path, "train", build_tokenizer("byte", lambda: iter([]))) as writer,
        pytest.raises(DataError, match="the tokenizer gave id 257, its vocabulary ends at 256"),
    ):
        writer.add(np.array([3, 257]), 2, starts_document=True)


def sealed(folder, name, content):
    """A damaged file under the right sums: what is behind them is asked."""
    (folder / name).write_bytes(content)
    meta = json.loads((folder / "meta.json").read_text())
    change_meta(folder, files=meta["files"] | {name: file_meta(folder / name).__dict__})


def table(numbers, dtype="<i8"):
    out = io.BytesIO()
    np.save(out, np.array(numbers, dtype))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val.bin", b"abc", "its 3 bytes are no whole number of 2"),
        ("val.bin", b"", "it says 29 val tokens, there are 0"),
        ("val.bin", b"\xff" * 56, "it holds the number 65535, and only those below 257 are known"),
        ("val.documents.npy", b"", "it is no table of two whole numbers"),
        ("val.documents.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O'}   ", "it is no table of two whole numbers"),
        ("val.documents.npy", table([[0, 28]], "<f8"), "no table of two whole numbers"),
        ("val.documents.npy", table([0, 28]), "no table of two whole numbers"),
        ("val.documents.npy", table([[0, 10], [30, 18]]), "do not follow each other from token 0 to 29"),
        ("val.documents.npy", table([[1, 28]]), "do not follow each other from token 0 to 29"),
        ("val.documents.npy", table([[0, -1]]), "do not follow each other from token 0 to 29"),
        ("val.documents.npy", table([[0, 10], [10, 18]]), "there are 2 val documents, it says another number"),
    ],
)
def test_what_a_file_says_is_checked_behind_its_sums(folder, name, content, message):
    sealed(folder, name, content)
    with pytest.raises(DataError, match=message):
        load_data(folder)


@pytest.mark.parametrize(
    "fields", [{"documents": "1"}, {"labels": [1]}, {"sources": "x"}, {"vocab_size": -1}, {"x": 1}]
)
def test_every_entry_of_meta_has_its_type(folder, fields):
    change_meta(folder, **fields)
    with pytest.raises(DataError, match=rf"meta\.json is damaged: it is not what GlassGPT writes \(.*{min(fields)}"):
        load_data(folder)


def test_marks_are_as_many_as_there_are_texts_and_name_labels_that_are_known(write, tmp_path):
    path = write("moods.csv", "text,label\n" + "row on,work\ndream on,rest\n" * 8)
    folder = prepare([os.fspath(path)], tmp_path / "labelled", "byte").path
    count = len(load_data(folder).train_documents)
    for numbers, message in (([0] * (count - 1), f"{count - 1} marks for {count}"), ([2] * count, "below 2 are known")):
        sealed(folder, "train.marks.bin", np.array(numbers, "<u4").tobytes())
        with pytest.raises(DataError, match=message):
            load_data(folder)
