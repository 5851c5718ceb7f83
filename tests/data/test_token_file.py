"""A prepared folder that is damaged is never read: each message names the file."""

import json
import os

import numpy as np
import pytest

from glassgpt.data import load_data, prepare, token_file
from glassgpt.data.token_file import TokenFileWriter, token_dtype
from glassgpt.errors import DataError
from glassgpt.tokenizer import build_tokenizer


@pytest.fixture
def folder(write, tmp_path):
    path = write("poem.txt", "Tyger Tyger, burning bright,\nIn the forests of the night\n" * 5)
    return prepare([os.fspath(path)], tmp_path / "data", "byte").path


def change_meta(folder, **fields):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | fields))


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
    monkeypatch.setattr(token_file, "CHECKED_BYTES", 100)
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
