"""`glassgpt inspect`: a page that shows what a model does with a prompt, and the heart of it in the terminal."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from glassgpt.cli.flags import Device, RunToRead, TokenizerOfModel, given_text
from glassgpt.cli.page import WRITTEN_TOKENS, page_file

PAGE = Path("inspect.html")


def inspect(
    run: RunToRead = None,
    /,
    *,
    prompt: Annotated[
        str | None,
        Parameter(
            help=f"text to look at; -: standard input; none: the first text of the first --pair, or {WRITTEN_TOKENS} tokens "
            "that the model writes itself",
            allow_leading_hyphen=True,
        ),
    ] = None,
    pair: Annotated[
        list[tuple[str, str]] | None,
        Parameter(
            help="two texts of equally many tokens that differ in one word, each with a | before the token that should "
            'follow; which parts know it? --pair "The dogs near the cat| run" "The dog near the cat| runs"; may be said '
            "several times",
            allow_leading_hyphen=True,
        ),
    ] = None,
    out: Annotated[Path, Parameter(help="the page; one of an earlier look is replaced [inspect.html]")] = PAGE,
    tokenizer: TokenizerOfModel = None,
    device: Device = "auto",
) -> None:
    """Look inside a model: what it expected of each token, attention, residual stream, logit lens, what is lost without each
    part, neurons, and which parts tell minimal pairs apart. One self-contained HTML page, and the heart of it here. Of a
    prompt the last 128 tokens are shown."""
    from rich.console import Console

    from glassgpt.cli.inspect_tables import tables
    from glassgpt.cli.main import say
    from glassgpt.cli.progress import PreparationDisplay
    from glassgpt.disk import as_argument, replace_file
    from glassgpt.errors import ConfigError
    from glassgpt.inspection import look, read_pair, render
    from glassgpt.inspection.subject import open_subject, validation_text, written_tokens
    from glassgpt.machine import keep_freed_memory

    keep_freed_memory()
    page_file(out, "inspect")
    asked = given_text(prompt)
    checkpoint, engine = open_subject(run, device, say, tokenizer)
    if checkpoint.labels:
        raise ConfigError(
            f"{checkpoint.folder} tells labels apart and expects no next token; see what its lines compute: "
            f"glassgpt trace {as_argument(checkpoint.folder)} --prompt TEXT"
        )
    pairs = [read_pair(engine, one, other) for one, other in pair or ()]
    if asked is not None:
        tokens, whose = engine.encode_prompt(asked), ""
    elif pairs:
        tokens, whose = pairs[0].text[None], "the first text of --pair"
    else:
        tokens, whose = written_tokens(engine, WRITTEN_TOKENS), "what the model wrote itself"
    with PreparationDisplay() as display:
        contexts = validation_text(checkpoint, engine)
        data = look(engine, tokens, lambda what, done, of: display.on_prepare(what, done / of), pairs, contexts)
    replace_file(out, render("inspect.html", data).encode())
    console = Console(highlight=False)
    if whose:
        print(f"without --prompt, {whose}:")
    given, seen = data["model"]["given"], data["model"]["shown"]
    if given > seen:
        print(f"of the prompt's {given:,} tokens the last {seen}:")
    for table in tables(data):
        console.print(table)
    print(f"written to {out}: open it in a browser")
