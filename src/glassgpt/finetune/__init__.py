"""What a model is made to learn from records: conversations (their answers) or labels. Records in, pieces to learn out; the
token files, batches and the loop are those of any other text."""

from typing import Literal

from glassgpt.finetune.conversations import PAIR, conversation_of, holds_conversation, renamed
from glassgpt.finetune.labels import LABEL, label_of, ordered
from glassgpt.finetune.template import ANSWERING, CHATML, PLAIN, ROLES, Message, Template, read_template, template_for

Task = Literal["text", "conversations", "labels"]


def task_of(fields: set[str], text_field: str) -> Task:
    """What a record with these fields is for."""
    if holds_conversation(fields):
        return "conversations"
    return "labels" if {text_field, LABEL} <= fields else "text"


__all__ = [
    "ANSWERING",
    "CHATML",
    "LABEL",
    "PAIR",
    "PLAIN",
    "ROLES",
    "Message",
    "Task",
    "Template",
    "conversation_of",
    "holds_conversation",
    "label_of",
    "ordered",
    "read_template",
    "renamed",
    "task_of",
    "template_for",
]
