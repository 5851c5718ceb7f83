"""`glassgpt inspect`: a page that shows what a model does with a prompt, and the heart of it in the terminal."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.flags import Device, RunToRead, TokenizerOfModel

PAGE = Path("inspect.html")
MARK = b"<title>GlassGPT: "
WRITTEN_TOKENS = 40
WORST, STRONGEST = 5, 6


def inspect(
    run: RunToRead = None,
    /,
    *,
    prompt: Annotated[
        str, Parameter(help="text to look at; none: 40 tokens that the model writes itself", allow_leading_hyphen=True)
    ] = "",
    out: Annotated[Path, Parameter(help="the page; one of an earlier look is replaced [inspect.html]")] = PAGE,
    tokenizer: TokenizerOfModel = None,
    device: Device = "auto",
) -> None:
    """Look inside a model: what it expected of each token, attention, residual stream, logit lens, what is lost without each
    part. One self-contained HTML page, and the heart of it here. Of a prompt the last 128 tokens are shown."""
    from rich.console import Console

    from glassgpt.cli.main import STANDARD_INPUT, say
    from glassgpt.cli.progress import PreparationDisplay
    from glassgpt.disk import replace_file
    from glassgpt.generate import load_run
    from glassgpt.inspection import look, render

    page_file(out, "inspect")
    engine = load_run(run, device, say, tokenizer)
    prompt = sys.stdin.read() if prompt == STANDARD_INPUT else prompt
    if not prompt:
        prompt = engine.generate(max_new_tokens=WRITTEN_TOKENS)
    with PreparationDisplay() as display:
        data = look(engine, prompt, lambda what, done, of: display.on_prepare(what, done / of))
    replace_file(out, render("inspect.html", data).encode())
    console = Console(highlight=False)
    for table in tables(data):
        console.print(table)
    print(f"written to {out}: open it in a browser")


def page_file(out: Path, verb: str) -> None:
    """Raises ConfigError where something else than a page of ours would be lost."""
    from glassgpt.errors import ConfigError

    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name a file, such as {out / verb}.html")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out} is in a folder that is not there; make {out.parent}, or choose another --out")
    if out.exists() and MARK not in out.read_bytes()[:2000]:
        raise ConfigError(f"{out} exists and is no page of glassgpt {verb}; choose another --out")


def tables(data: dict[str, Any]) -> list[Any]:
    """The prompt coloured by surprise, the tokens that surprised most, what each layer would say at the end, and the parts
    that matter most."""
    from rich.table import Table
    from rich.text import Text

    from glassgpt.inspection import strongest

    prompt = Text()
    for token in data["tokens"]:
        p = token.get("probability", 1.0)
        prompt.append(token["text"], "bold red" if p < 0.01 else "yellow" if p < 0.1 else "")
    surprising = Table(
        "token", "its probability", "expected instead", box=None, title="what surprised it most", title_justify="left"
    )
    for token in sorted(data["tokens"][1:], key=lambda token: token["probability"])[:WORST]:
        instead = ", ".join(f"{shown(text)} {p:.0%}" for text, p in token["alternatives"][:3])
        surprising.add_row(Text(shown(token["text"])), f"{token['probability']:.2%}", Text(instead))
    lens = Table("after", "would say", "surely", box=None, title="what each layer would say next", title_justify="left")
    for stage, row in zip(data["stages"], data["lens"], strict=True):
        text, p, _ = row[-1]
        lens.add_row(stage, Text(shown(text)), f"{p:.1%}")
    lost = data["ablation"]
    parts = Table(
        "without", "nats a token more", box=None, title=f"loss {lost['loss']:.3f} nats a token", title_justify="left"
    )
    for v, name in strongest(data, STRONGEST):
        parts.add_row(name, f"{v:+.3f}")
    return [prompt, "", surprising, "", lens, "", parts, ""]


def shown(text: str) -> str:
    """White space made visible."""
    return text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥") or "(nothing)"
