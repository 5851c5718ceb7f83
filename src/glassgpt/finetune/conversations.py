"""A record -> a conversation. `messages` (a list of `role` and `content`, as chat programs keep them), or `prompt` and
`completion`, which are a conversation of one question and one answer."""

from collections.abc import Collection, Mapping
from typing import Any

from glassgpt.errors import DataError
from glassgpt.finetune.template import ANSWERING, ROLES, Message

PAIR = ("prompt", "completion")
# What other programs call them.
ELSEWHERE = {
    "instruction": "prompt", "question": "prompt", "query": "prompt",
    "output": "completion", "response": "completion", "answer": "completion",
    "conversations": "messages", "conversation": "messages", "dialogue": "messages",
}  # fmt: skip
ROLES_ELSEWHERE = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}


def holds_conversation(fields: Collection[str]) -> bool:
    return "messages" in fields or set(PAIR) <= set(fields)


def renamed(fields: Collection[str]) -> str:
    """', here ... is called ...' for fields of other schools; empty where there are none."""
    known = [f"{name} is called {ELSEWHERE[name.lower()]} here" for name in fields if name.lower() in ELSEWHERE]
    return f" ({', '.join(known)})" if known else ""


def conversation_of(record: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    """Its messages, at least one of them the assistant's. Raises DataError, beginning with `where`, for another record."""
    if "messages" not in record:
        prompt, completion = (text_in(record, field, where) for field in PAIR)
        return require_answer((Message("user", prompt), Message(ANSWERING, completion)), where)
    messages = record["messages"]
    if isinstance(messages, str):
        raise DataError(
            f"{where}: messages is a text, it must be a list; keep them in jsonl, or take the columns {PAIR[0]} and {PAIR[1]}"
        )
    if not isinstance(messages, list):
        raise DataError(
            f'{where}: messages must be a list such as [{{"role": "user", "content": "..."}}, ...], '
            f"it is {messages!r:.40}"
        )
    conversation = tuple(message_of(message, f"{where}, message {n}") for n, message in enumerate(messages, start=1))
    return require_answer(conversation, where)


def require_answer(conversation: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    if not any(message.content for message in conversation if message.role == ANSWERING):
        raise DataError(f"{where}: the {ANSWERING} says nothing, so that there is nothing to learn; add its answer")
    return conversation


def message_of(message: Any, where: str) -> Message:
    if isinstance(message, dict) and {"from", "value"} <= message.keys():
        raise DataError(f"{where}: from is called role here, and value content; rename them")
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise DataError(
            f'{where} must be an object such as {{"role": "user", "content": "..."}}, it is {message!r:.60}'
        )
    role = text_in(message, "role", where)
    if role not in ROLES:
        other = ROLES_ELSEWHERE.get(role.lower())
        advice = f"here it is called {other}" if other else f"the roles are {', '.join(ROLES)}"
        raise DataError(f"{where}: role {role!r} is not known; {advice}")
    return Message(role, text_in(message, "content", where))


def text_in(record: Mapping[str, Any], field: str, where: str) -> str:
    if not isinstance(record[field], str):
        raise DataError(f"{where}: {field} must hold a string, it holds {record[field]!r:.40}")
    text: str = record[field]
    return text
