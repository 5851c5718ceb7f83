"""Records -> conversations and labels, and what the line says where they are none."""

import pytest

from glassgpt.errors import DataError
from glassgpt.finetune import Message, conversation_of, label_of, ordered, task_of


def test_messages_and_pairs():
    pair = {"prompt": "Hi.", "completion": "Ho.", "more": 1}
    assert conversation_of(pair, "x") == (Message("user", "Hi."), Message("assistant", "Ho."))
    messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho.", "more": 1}]
    assert conversation_of({"messages": messages}, "x") == (Message("user", "Hi."), Message("assistant", "Ho."))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"messages": {"a": 1}}, "x: messages must be a list such as"),
        ({"messages": []}, "x: the assistant says nothing, so that there is nothing to learn; add its answer"),
        ({"messages": [{"role": "user", "content": "Hi."}]}, "the assistant says nothing"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "the assistant says nothing"),
        ({"prompt": "a", "completion": ""}, "the assistant says nothing"),
        ({"messages": '[{"role": "user"}]'}, "messages is a text, it must be a list; keep them in jsonl"),
        ({"messages": [{"from": "human", "value": "a"}]}, "message 1: from is called role here, and value content"),
        ({"messages": ["Hi."]}, "x, message 1 must be an object such as"),
        ({"messages": [{"role": "user"}]}, "x, message 1 must be an object such as"),
        ({"messages": [{"role": "user", "content": None}]}, "x, message 1: content must hold a string, it holds None"),
        ({"messages": [{"role": 3, "content": ""}]}, "x, message 1: role must hold a string, it holds 3"),
        ({"messages": [{"role": "gpt", "content": ""}]}, "role 'gpt' is not known; here it is called assistant"),
        (
            {"messages": [{"role": "tool", "content": ""}]},
            "role 'tool' is not known; the roles are system, user, assistant",
        ),
        ({"prompt": 1, "completion": "a"}, "x: prompt must hold a string, it holds 1"),
        ({"prompt": "a", "completion": ["b"]}, "x: completion must hold a string"),
    ],
)
def test_what_is_no_conversation(record, said):
    with pytest.raises(DataError) as caught:
        conversation_of(record, "x")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_labels_are_words_numbers_and_truths():
    assert [label_of({"label": value}, "x") for value in (" ham ", 3, True)] == ["ham", "3", "true"]
    for nothing in (None, "", " ", 0.5, ["ham"]):
        with pytest.raises(DataError, match="x: label must hold a word or a whole number"):
            label_of({"label": nothing}, "x")


def test_labels_are_ordered_as_a_person_would():
    assert ordered(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert ordered(["b", "10", "9", "b"]) == ("10", "9", "b")
    assert ordered(["9", "1" * 5000]) == ("1" * 5000, "9")


@pytest.mark.parametrize(
    ("fields", "task"),
    [
        ({"messages", "id"}, "conversations"), ({"prompt", "completion"}, "conversations"), ({"prompt"}, "text"),
        ({"body", "label"}, "labels"), ({"text", "label"}, "text"), ({"body"}, "text"), (set(), "text"),
    ],
)  # fmt: skip
def test_the_fields_say_what_a_record_is_for(fields, task):
    assert task_of(fields, "body") == task
