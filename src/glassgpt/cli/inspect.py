"""`glassgpt inspect`: a page that shows what a model does with a prompt, and the heart of it in the terminal."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.flags import Device, RunToRead, TokenizerOfModel, given_text
from glassgpt.cli.page import WRITTEN_TOKENS, page_file

if TYPE_CHECKING:
    from torch import Tensor

    from glassgpt.checkpoint import Checkpoint
    from glassgpt.generate import Engine

PAGE = Path("inspect.html")
WORST, STRONGEST = 5, 6
LEAST_LOSS = 0.0005  # nats a token; less is shown as 0
CONTEXT = 18  # characters: the token that excites a neuron, and what stands before it
LEGEND = "\u00b7 space, \u23ce line break, <e2> a byte of a character that several tokens make up"
OF_ONE_TOKEN = (
    "of one token there is no surprise and no loss, nor what is lost without a part: a longer --prompt shows these"
)
CONTEXT_TOKENS, LONGEST_CONTEXT = 1024, 128  # of the validation text, in which is looked for what excites neurons


def inspect(
    run: RunToRead = None,
    /,
    *,
    prompt: Annotated[
        str | None,
        Parameter(
            help="text to look at; -: standard input; none: the first text of the first --pair, or 40 tokens that the "
            "model writes itself",
            allow_leading_hyphen=True,
        ),
    ] = None,
    pair: Annotated[
        list[tuple[str, str]] | None,
        Parameter(
            help="two texts that differ in one word, each with a | before the token that should follow; which "
            'parts know it? --pair "The dogs near the cat| run" "The dog near the cat| runs"; may be said several times',
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

    from glassgpt.cli.progress import PreparationDisplay
    from glassgpt.disk import as_argument, replace_file
    from glassgpt.errors import ConfigError
    from glassgpt.inspection import look, read_pair, render
    from glassgpt.machine import keep_freed_memory

    keep_freed_memory()
    page_file(out, "inspect")
    asked = given_text(prompt)
    checkpoint, engine = opened(run, device, tokenizer)
    if checkpoint.labels:
        raise ConfigError(
            f"{checkpoint.folder} tells labels apart and expects no next token; see what its lines compute: "
            f"glassgpt trace {as_argument(checkpoint.folder)} --prompt TEXT"
        )
    pairs = [read_pair(engine, one, other) for one, other in pair or ()]
    if asked is not None:
        text, whose = asked, ""
    elif pairs:
        text, whose = engine.tokenizer.decode(pairs[0].text.tolist()), "the first text of --pair"
    else:
        text, whose = engine.generate(max_new_tokens=WRITTEN_TOKENS), "what the model wrote itself"
    with PreparationDisplay() as display:
        contexts = validation_text(checkpoint, engine)
        data = look(engine, text, lambda what, done, of: display.on_prepare(what, done / of), pairs, contexts)
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


def opened(run: Path | None, device: str, tokenizer: str | None) -> tuple["Checkpoint", "Engine"]:
    """As `load_run`, and a model that tells labels apart as well."""
    from glassgpt.checkpoint import find_checkpoint, load_checkpoint, load_model
    from glassgpt.cli.main import say
    from glassgpt.generate import Engine
    from glassgpt.generate.engine import ends_of
    from glassgpt.machine import decide_device

    checkpoint = load_checkpoint(find_checkpoint(run, say))
    chosen = checkpoint.tokenizer(tokenizer)
    return checkpoint, Engine(load_model(checkpoint, decide_device(device).choice), chosen, ends_of(checkpoint, chosen))


def validation_text(checkpoint: "Checkpoint", engine: "Engine") -> "Tensor | None":
    """(B, T): windows spread evenly over what the run was validated with, where it still lies in the cache; None elsewhere."""
    import numpy as np
    import torch

    from glassgpt.config.cache_folder import cache_folder
    from glassgpt.data.prepare import load_if_whole

    fingerprint = checkpoint.state.get("data_fingerprint")
    if not isinstance(fingerprint, str) or not fingerprint.isalnum():
        return None
    data = load_if_whole(cache_folder() / "data" / fingerprint)
    if data is None or data.meta.vocab_size > engine.model.config.vocab_size:
        return None
    length = min(LONGEST_CONTEXT, engine.model.config.context_length, len(data.val))
    if not length:
        return None
    rows = min(CONTEXT_TOKENS, len(data.val)) // length
    begins = np.linspace(0, len(data.val) - length, rows).astype("int64")
    windows = np.stack([data.val[begin : begin + length] for begin in begins])
    return torch.from_numpy(windows.astype("int64")).to(engine.device)


def tables(data: dict[str, Any]) -> list[Any]:
    """The prompt coloured by surprise, the tokens that surprised most, what each layer would say at the end, and the parts
    that matter most."""
    from rich.table import Table
    from rich.text import Text

    prompt = Text()
    for token in data["tokens"]:
        p = token.get("probability", 1.0)
        prompt.append(token["text"], "bold red" if p < 0.01 else "yellow" if p < 0.1 else "")
    surprising = Table(
        "token", "its probability", "expected instead", box=None, title="what surprised it most", title_justify="left"
    )
    unexpected = [token for token in data["tokens"][1:] if token["probability"] < 0.5]
    for token in sorted(unexpected, key=lambda token: token["probability"])[:WORST]:
        others = [(text, p) for text, p in token["alternatives"] if text != token["text"]]
        instead = ", ".join(f"{shown(text)} {p:.0%}" for text, p in others[:3])
        surprising.add_row(Text(shown(token["text"])), f"{token['probability']:.2%}", Text(instead))
    lens = Table("after", "would say", "surely", box=None, title="what each layer would say next", title_justify="left")
    for stage, row in zip(data["stages"], data["lens"], strict=True):
        text, p, _ = row[-1]
        lens.add_row(stage, Text(shown(text)), f"{p:.1%}")
    if data["ablation"]:
        tables = [prompt, "", surprising, "", lens, "", parts_of(data["ablation"]), "", neurons_of(data), ""]
    else:
        tables = [prompt, "", OF_ONE_TOKEN, "", lens, "", neurons_of(data), ""]
    for pair in data["pairs"]:
        tables += [pair_of(pair), ""]
    return [*tables, Text(f"{LEGEND}\n", "dim")]


def parts_of(lost: dict[str, Any]) -> Any:
    """Those that the prompt is read worst without, and those that it is read better without."""
    from rich.console import Group
    from rich.table import Table

    from glassgpt.inspection import opposed, strongest

    title = f"loss {lost['loss']:.3f} nats a token"
    parts = Table("without", "nats a token more", "", box=None, title=title, title_justify="left")
    helps = [(v, name) for v, name in strongest(lost, STRONGEST) if v >= LEAST_LOSS]
    hinders = [(v, name) for v, name in opposed(lost, STRONGEST) if v <= -LEAST_LOSS]
    for v, name in helps:
        parts.add_row(name, f"{v:+.3f}")
    for v, name in hinders:
        parts.add_row(name, f"{v:+.3f}", "better without it")
    notes = {
        "no part helps: the loss never grows when one is left out": helps,
        "no part is in the way: the loss never falls when one is left out": hinders,
    }
    return Group(parts, *(note for note, of in notes.items() if not of))


def neurons_of(data: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Column, Table
    from rich.text import Text

    is_sum = data["neurons"][0]["adds"] is not None
    does = (
        f"that write for [{shown(data['next'][0][0])}], which it expects next" if is_sum else "that are furthest from 0"
    )
    table = Table(
        "neuron", "activation", "adds", Column("most excited by", justify="right", overflow="fold"), "writes for",
        box=None, title_justify="left", title=Text(f"neurons {does}"),
    )  # fmt: skip
    for neuron in data["neurons"][:STRONGEST]:
        adds = "" if neuron["adds"] is None else f"{neuron['adds']:+.2f}"
        values = "against: " * neuron["against"] + " ".join(shown(text) for text in neuron["values"])
        excited = Text("nothing here", "dim")
        for key in neuron["keys"][:1]:
            text = shown(key["text"])
            before = ending(key["before"], CONTEXT - len(text))
            excited = Text(before and shown(before), "dim") + Text(f"[{text}]", "bold")
        table.add_row(
            f"layer {neuron['layer']}, {neuron['neuron']}", f"{neuron['activation']:+.2f}", adds, excited, Text(values)
        )
    return Group(table, *([data["signs"]] if data["signs"] else []))


def ending(text: str, most: int) -> str:
    """Its last characters, at most so many; bytes of a character, as <e2>, are not cut."""
    pieces = re.findall("<[0-9a-f]{2}>|.", text, re.DOTALL)
    while pieces and sum(map(len, pieces)) > most:
        del pieces[0]
    return "".join(pieces)


def pair_of(pair: dict[str, Any]) -> Any:
    """What it says after both texts, and the parts that carry most of the difference."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from glassgpt.inspection import strongest

    said = Table(
        "after",
        *(escape(shown(answer)) for answer in pair["answers"]),
        box=None,
        title="minimal pair",
        title_justify="left",
    )
    for text, shares in zip(pair["texts"], pair["probabilities"], strict=True):
        said.add_row(Text("".join(text).replace("\n", "⏎")), *(f"{p:.1%}" for p in shares))
    if not pair["known"]:
        return Group(said, pair["about"])
    parts = Table("taken from the other text", "carries", box=None)
    for v, name in strongest(pair, STRONGEST):
        parts.add_row(name, f"{v:.0%}")
    return Group(said, pair["about"], parts)


def shown(text: str) -> str:
    """White space made visible."""
    return text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍") or "(nothing)"
