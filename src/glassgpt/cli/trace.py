"""`glassgpt trace`: the source of the model, and beside each line the tensor that it made of a prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from glassgpt.cli.flags import Device, RunToRead, TokenizerOfModel, given_text
from glassgpt.cli.page import WRITTEN_TOKENS, page_file

if TYPE_CHECKING:
    from torch import Tensor

    from glassgpt.checkpoint import Checkpoint
    from glassgpt.generate import Engine

PAGE = Path("trace.html")
PROMPT = "Hello, I am"


def trace(
    run: RunToRead = None,
    /,
    *,
    prompt: Annotated[
        str | None,
        Parameter(
            help=f"text that the model reads, its last 64 tokens; -: standard input; none: {PROMPT!r}, or a text of the "
            "model's own where it cannot read that",
            allow_leading_hyphen=True,
        ),
    ] = None,
    out: Annotated[Path, Parameter(help="the page; one of an earlier trace is replaced [trace.html]")] = PAGE,
    tokenizer: TokenizerOfModel = None,
    device: Device = "auto",
) -> None:
    """Read the code and watch it run: one self-contained page with the source of the model's own file, and beside each line
    the shape, the statistics and a small picture of the tensor that it made, for this prompt and this checkpoint."""
    from glassgpt.cli.main import say
    from glassgpt.disk import replace_file
    from glassgpt.inspection import render, traced
    from glassgpt.inspection.subject import open_subject

    page_file(out, "trace")
    asked = given_text(prompt)
    checkpoint, engine = open_subject(run, device, say, tokenizer)
    tokens = readable(engine, checkpoint) if asked is None else engine.encode_prompt(asked)
    replace_file(out, render("trace.html", traced(engine, tokens)).encode())
    if asked is None:
        known = [
            id for id in tokens[0].tolist() if id < engine.tokenizer.vocab_size
        ]  # ids beyond only pad the embedding
        print(f"without --prompt, it read {engine.tokenizer.decode(known)!r}")
    print(f"written to {out}: open it in a browser")


def readable(engine: "Engine", checkpoint: "Checkpoint") -> "Tensor":
    """PROMPT, or what the model writes where it cannot read that."""
    from glassgpt.errors import ConfigError, TokenizerError
    from glassgpt.inspection.subject import written_tokens

    try:
        return engine.encode_prompt(PROMPT)
    except TokenizerError:  # of a vocabulary of few characters
        if checkpoint.labels:
            raise ConfigError(
                f"{checkpoint.folder} tells labels apart and cannot read {PROMPT!r}; say what it should read: --prompt TEXT"
            ) from None
        return written_tokens(engine, WRITTEN_TOKENS)
