from dataclasses import dataclass
from typing import Any, Literal

import pytest

from glassgpt.config.plain import MOST_NESTED, parse_json, typed


@dataclass(frozen=True, kw_only=True)
class Inner:
    count: int


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    share: float | None
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()
    more: dict[str, Inner]


WHOLE: dict[str, Any] = {"inner": {"count": 3}, "share": 1, "names": ["x"], "more": {"y": {"count": 0}}}


def test_what_json_holds_becomes_the_type_that_was_asked_for():
    found = typed(Outer, WHOLE, "it")
    assert found == Outer(inner=Inner(count=3), share=1.0, names=("x",), more={"y": Inner(count=0)})
    assert typed(Outer, WHOLE | {"share": None, "kind": "b"}, "it").share is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": {}}, "inner has no entry 'count'"),
        ({"inner": 3}, "inner is 3, which is not an object"),
        ({"inner": {"count": -1}}, "count is -1, which is not a whole number from 0 on"),
        ({"inner": {"count": 2**63}}, "count is 9223372036854775808, which is not a whole number"),
        ({"inner": {"count": True}}, "count is True, which is not a whole number"),
        ({"inner": {"count": 1.0}}, "count is 1.0, which is not a whole number"),
        ({"share": float("nan")}, "share is nan, which is not a finite number or null"),
        ({"share": float("inf")}, "share is inf, which is not a finite number or null"),
        ({"share": 10**400}, "share is 1000"),
        ({"share": True}, "share is True"),
        ({"kind": "c"}, "kind is 'c', which is not one of a, b"),
        ({"kind": []}, r"kind is \[\], which is not one of a, b"),
        ({"names": "xy"}, "names is 'xy', which is not a list"),
        ({"names": [1]}, "an entry of names is 1, which is not a text"),
        ({"more": {"y": None}}, "more.y is None, which is not an object"),
        ({"other": 1}, "it has an unknown entry 'other'"),
    ],
)
def test_anything_else_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        typed(Outer, WHOLE | change, "it")


def test_json_is_read_as_ever():
    assert parse_json(b'\xef\xbb\xbf{"a": [1, "\\ud83d\\ude00"]}') == {"a": [1, "😀"]}
    deep = "[" * MOST_NESTED + "]" * MOST_NESTED
    assert parse_json(deep) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * (MOST_NESTED + 1) + "]" * (MOST_NESTED + 1), "nested more than 100 levels"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested more than 100 levels"),
        ('{"a": "\\ud83d"}', "half of a surrogate pair"),
        ('{"\\udc00": 1}', "half of a surrogate pair"),
        ("9" * 5000, "4300"),
        ("{", "Expecting"),
        (b"\xff{}", "utf-8"),
    ],
)
def test_what_could_not_be_walked_or_written_again_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)
