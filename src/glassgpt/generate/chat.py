"""A conversation with a model that was trained on conversations: what was said in, its answer out."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from glassgpt.checkpoint import find_checkpoint, load_checkpoint, load_model
from glassgpt.disk import as_argument
from glassgpt.errors import ConfigError
from glassgpt.finetune import Message, Template
from glassgpt.generate.engine import Engine, SamplingSettings
from glassgpt.machine import decide_device

# Of the context, what is left for the answer, however much was said before.
ROOM_TO_ANSWER = 0.25


class Chat:
    """`answer` streams what the assistant says next; `say` does the same and remembers both sides."""

    def __init__(self, engine: Engine, template: Template, system: str = "") -> None:
        """An answer ends with one of the engine's `ends`, or as the template says."""
        ends = engine.ends | {template.end_id(engine.tokenizer)}
        self.engine, self.template = Engine(engine.model, engine.tokenizer, ends), template
        self.messages = [Message("system", system)] if system else []

    def say(self, content: str, **settings: float) -> Iterator[str]:
        """The answer to `content` in this conversation, as it is written. Settings are those of SamplingSettings. Both become
        part of the conversation once the answer is whole."""
        asked = [*self.messages, Message("user", content)]
        answer = ""
        for piece in self.answer(asked, **settings):
            answer += piece
            yield piece
        self.messages = [*asked, Message("assistant", answer)]

    def answer(self, messages: Sequence[Message], **settings: float) -> Iterator[str]:
        """As long as it may be, and the context: beyond, the model would lose sight of what it was asked."""
        ids = self.prompt(messages)
        chosen = SamplingSettings(**settings)  # type: ignore[arg-type]
        room = self.engine.model.config.context_length - len(ids)
        limited = asdict(chosen) | {"max_new_tokens": min(chosen.max_new_tokens, room)}
        for pieces in self.engine.write(torch.tensor([ids], device=self.engine.device), 1, **limited):
            yield pieces[0]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that the answer follows. Where they leave no room in the context, the oldest messages but the system's are
        forgotten, whole ones and never the last. Raises ConfigError where the context is too short for these alone."""
        context_length = self.engine.model.config.context_length
        room = context_length - int(ROOM_TO_ANSWER * context_length)
        first = 1 if messages and messages[0].role == "system" else 0
        for forgotten in range(max(1, len(messages) - first)):
            ids = self.template.prompt(self.engine.tokenizer, [*messages[:first], *messages[first + forgotten :]])
            if len(ids) <= room:
                break
        if len(ids) >= context_length:
            what = "what the system says and the last message take" if first else "the message takes"
            raise ConfigError(
                f"{what} {len(ids)} tokens, the model sees {context_length} at once, its answer included; say it shorter"
            )
        return ids


def load_chat(
    path: str | Path | None = None,
    device: str = "auto",
    report: Callable[[str], object] = warnings.warn,
    system: str = "",
) -> Chat:
    """The best checkpoint of a run that was trained on conversations (or one checkpoint folder; None: the newest run).
    `system` is what it is told before the first question; `report` is handed a line where the best checkpoint is damaged."""
    checkpoint = load_checkpoint(find_checkpoint(Path(path) if path is not None else None, report))
    template = checkpoint.template
    folder = as_argument(checkpoint.folder)
    if checkpoint.labels:
        raise ConfigError(
            f"{checkpoint.folder} tells labels apart and answers no questions; use: glassgpt classify {folder}"
        )
    if template is None:
        raise ConfigError(
            f"{checkpoint.folder} was not trained on conversations; let it write with: glassgpt sample {folder}, or teach it: "
            f"glassgpt train CONVERSATIONS.jsonl --from {folder}"
        )
    engine = Engine(load_model(checkpoint, decide_device(device).choice), checkpoint.tokenizer())
    return Chat(engine, template, system)
