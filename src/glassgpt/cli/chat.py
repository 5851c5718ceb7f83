"""`glassgpt chat`: talk with a model that was trained on conversations."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from glassgpt.cli.flags import Device, Temperature, TopK, TopP, WholeNumber, prompt_text
from glassgpt.errors import ConfigError
from glassgpt.signals import unwinding


def chat(
    run: Annotated[Path | None, Parameter(help="a run or one checkpoint; the newest run where nothing is said")] = None,
    /,
    *,
    prompt: Annotated[
        str,
        Parameter(
            help="one question: it is answered, and that is all; none: a conversation", allow_leading_hyphen=True
        ),
    ] = "",
    system: Annotated[
        str, Parameter(help="what the model is told before the first question", allow_leading_hyphen=True)
    ] = "",
    max_new_tokens: Annotated[WholeNumber, Parameter(help="tokens in an answer at most [500]")] = 500,
    temperature: Temperature = 0.8,
    top_k: TopK = 200,
    top_p: TopP = 1.0,
    seed: Annotated[WholeNumber, Parameter(help="another seed, another answer [1337]")] = 1337,
    device: Device = "auto",
) -> None:
    """Talk with a model that was trained on conversations. Takes the best checkpoint of the run. Each line that you type is
    what the user says; from a pipe likewise. Ctrl-D (Windows: Ctrl-Z and Enter) ends it.

    The model sees its last context_length tokens: the oldest messages are forgotten first, what --system says never.
    """
    from glassgpt.cli.main import say
    from glassgpt.generate import SamplingSettings, load_chat

    settings = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed,
    }  # fmt: skip
    SamplingSettings(**settings)  # type: ignore[arg-type] # a wrong one is said before the model is loaded
    talk = load_chat(run, device, say, system)
    asked = prompt_text(prompt)
    for number, question in enumerate([asked] if asked else questions()):
        try:
            for piece in talk.say(question, **settings | {"seed": seed + number}):
                print(piece, end="", flush=True)
        except ConfigError as error:
            if asked or not sys.stdin.isatty():
                raise
            say(str(error))  # somebody who types can say it otherwise
        print(flush=True)


def questions() -> Iterator[str]:
    """What is typed, line by line, without the empty ones."""
    typed = sys.stdin.isatty()
    if typed:
        with contextlib.suppress(ImportError):  # Windows' own console edits lines itself
            import readline  # noqa: F401 - arrows and history for input()
    while True:
        try:
            with unwinding():  # readline has to give the terminal back
                line = input("you: " if typed else "").strip()
        except (EOFError, KeyboardInterrupt) as end:
            if typed:
                print()  # what follows begins on a line of its own
            if isinstance(end, KeyboardInterrupt):
                raise
            return
        if line:
            yield line
