"""One file -> documents: what counts as text, and what the message says where it does not."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.data import text_pieces
from glassgpt.data.documents import read_documents
from glassgpt.data.records import Wanted
from glassgpt.data.text_pieces import Unreadable, last_safe_cut, read_pieces
from glassgpt.errors import DataError
from glassgpt.tokenizer import build_tokenizer


def texts(path: Path, text_field: str = "text") -> dict[str, str]:
    return {d.name: d.text for d in read_documents(path, path.name, Wanted("text", text_field))}


def test_newlines_stay_and_the_byte_order_mark_goes(write):
    path = write("a.txt", "\ufeffone\r\ntwo\rthree\ufeff\n".encode())
    assert texts(path) == {"a.txt": "one\r\ntwo\rthree\ufeff\n"}


def test_a_record_is_a_document(write):
    lines = [json.dumps({"text": "première\nligne"}), "", json.dumps({"n": 1, "text": "two"})]
    assert texts(write("a.jsonl", "\ufeff" + "\n".join(lines))) == {"a.jsonl:1": "première\nligne", "a.jsonl:3": "two"}
    table = 'id,body\r\n1,"a, ""b""\r\nc"\r\n2,d\r\n'
    assert texts(write("a.csv", "\ufeff" + table), "body") == {"a.csv:1": 'a, "b"\r\nc', "a.csv:2": "d"}
    assert texts(write("a.tsv", "id\tbody\n1\ta,b\n"), "body") == {"a.tsv:1": "a,b"}


def test_a_csv_field_may_be_long_and_the_modules_limit_is_put_back(write):
    csv.field_size_limit(128 << 10)
    assert len(texts(write("long.csv", "text\n" + "x" * 300_000))["long.csv:1"]) == 300_000
    assert csv.field_size_limit() == 128 << 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"ab\0c", r"a\.txt is not text: byte 2 is zero; .* convert the file"),
        ("a.txt", b"abc\xff", r"a\.txt is not UTF-8: byte 3 \(0xff\) cannot stand there; convert"),
        ("a.txt", b"abcd\xe2\x82", r"a\.txt is not UTF-8: byte 4 \(0xe2\)"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}', r"a\.jsonl is not UTF-8: byte 24 \(0xff\)"),
        ("a.csv", b"text\nab\n\xff\n", r"a\.csv is not UTF-8: byte 8 \(0xff\)"),
        ("a.jsonl", b'{"text": "x"}\n{"text"', r"a\.jsonl, line 2: not JSON \(.*\); each line must be an object"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", b"[1]", r"a\.jsonl, line 1: each line must be an object .*, this is \[1\]"),
        (
            "a.jsonl",
            b'{"id": 1, "body": "x"}',
            r"a\.jsonl, line 1: no field 'text'; the fields are 'id', 'body'; name one",
        ),
        ("a.jsonl", b'{"text": 5}', r"a\.jsonl, line 1: field 'text' must hold a string, it holds a int"),
        ("a.jsonl", b'{"text": "\\ud800"}', r"a\.jsonl:1 holds half a surrogate pair at character 0"),
        ("a.csv", b"id,body\n1,x\n", r"a\.csv, header: no field 'text'; the fields are 'id', 'body'"),
        ("a.csv", b"id,text\n1,x\n2\n", r"a\.csv, line 3: the row ends before column 'text'"),
        ("a.csv", b'text\n"x"y\n', r"a\.csv, line 2: not CSV \(.*\); quote its fields"),
    ],
)
def test_what_is_no_text_is_named_with_its_place(write, name, content, message):
    with pytest.raises(DataError, match=message) as caught:
        texts(write(name, content))
    assert "\n" not in str(caught.value)


def test_a_field_missing_at_first_is_another_kind_of_file_and_later_a_broken_one(write):
    with pytest.raises(Unreadable):
        texts(write("other.jsonl", '{"a": "x"}\n'))
    with pytest.raises(DataError, match="line 2: no field 'text'") as caught:
        texts(write("broken.jsonl", '{"text": "x"}\n{"a": "x"}\n'))
    assert not isinstance(caught.value, Unreadable)


@given(text=st.text(alphabet="aé1 \n\r\t.'s_€𝕏", max_size=60), block=st.integers(1, 9))
def test_pieces_join_to_the_text_and_tokenize_as_the_whole(tmp_path_factory, text, block):
    path = tmp_path_factory.mktemp("pieces") / "a.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_pieces, "PIECE_BYTES", block)
        pieces = list(read_pieces(path, "a.txt"))
    assert "".join(pieces) == text
    assert all(pieces)
    assert [i for piece in pieces for i in BPE.encode(piece)] == BPE.encode(text)


BPE = build_tokenizer("bpe", lambda: iter(["aa  aa\n\n  aa\r\n\r\n .. a's 11 _a \t\t\n" * 9]), vocab_size=280)


def test_crlf_and_lines_that_end_in_punctuation_can_be_cut():
    assert last_safe_cut("one two;\r\nthree four;\r\n") == len("one two;\r\nthree")
    assert last_safe_cut("....\n....\n") == 0


def test_a_stretch_without_a_safe_place_is_cut_all_the_same(write, monkeypatch):
    monkeypatch.setattr(text_pieces, "PIECE_BYTES", 4)
    monkeypatch.setattr(text_pieces, "LONGEST_PIECE", 16)
    pieces = list(read_pieces(write("a.txt", "x" * 101), "a.txt"))
    assert "".join(pieces) == "x" * 101
    assert max(map(len, pieces)) <= 16 + 4
