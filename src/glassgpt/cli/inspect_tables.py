"""What `inspect` found, in the terminal."""

import re
from typing import Any

WORST, STRONGEST = 5, 6
CONTEXT = 18  # characters: the token that excites a neuron, and what stands before it
LEGEND = "\u00b7 space, \u23ce line break, <e2> a byte of a character that several tokens make up"
OF_ONE_TOKEN = (
    "of one token there is no surprise and no loss, nor what is lost without a part: a longer --prompt shows these"
)


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
    for token in unexpected_of(data["tokens"])[:WORST]:
        others = [(text, p) for text, p in token["alternatives"] if text != token["text"]]
        instead = "  ".join(f"[{shown(text)}] {percent(p)}" for text, p in others[:3])
        surprising.add_row(Text(f"[{shown(token['text'])}]"), percent(token["probability"]), Text(instead))
    lens = Table("after", "would say", "surely", box=None, title="what each layer would say next", title_justify="left")
    for stage, row in zip(data["stages"], data["lens"], strict=True):
        text, p, _ = row[-1]
        lens.add_row(stage, Text(f"[{shown(text)}]"), percent(p))
    about = [surprising, "", lens, "", parts_of(data["ablation"])] if data["ablation"] else [OF_ONE_TOKEN, "", lens]
    pairs = [row for pair in data["pairs"] for row in (pair_of(pair), "")]
    return [prompt, "", *about, "", neurons_of(data), "", *pairs, Text(f"{LEGEND}\n", "dim")]


def parts_of(lost: dict[str, Any]) -> Any:
    """Those that the prompt is read worst without, and those that it is read better without."""
    from rich.console import Group
    from rich.table import Table

    from glassgpt.inspection import opposed, strongest

    title = f"loss {lost['loss']:.3f} nats a token"
    parts = Table("without", "nats a token more", "", box=None, title=title, title_justify="left")
    helps = strongest(lost, STRONGEST, lost["least"])
    hinders = opposed(lost, STRONGEST, lost["least"])
    for v, name in helps:
        parts.add_row(name, f"{v:+.3f}")
    for v, name in hinders:
        parts.add_row(name, f"{v:+.3f}", "better without it")
    by = f"by {lost['least']} nats when one is left out"
    notes = {
        f"no part helps: the loss never grows {by}": helps,
        f"no part is in the way: the loss never falls {by}": hinders,
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
        values = "against: " * neuron["against"] + " ".join(f"[{shown(text)}]" for text in neuron["values"])
        excited = Text("nothing here", "dim")
        for key in neuron["keys"][:1]:
            text = shown(key["text"])
            before = ending(key["before"], CONTEXT - len(text))
            excited = Text(before and shown(before), "dim") + Text(f"[{text}]", "bold")
        table.add_row(
            f"layer {neuron['layer']}, {neuron['neuron']}", f"{neuron['activation']:+.2f}", adds, excited, Text(values)
        )
    return Group(table, *([data["signs"]] if data["signs"] else []))


def unexpected_of(tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those in whose place the model expected another one, the least likely first; nothing comes before the first."""
    return sorted((token for token in tokens[1:] if token["rank"] > 1), key=lambda token: token["probability"])


def percent(p: float) -> str:
    """Two digits, of what is next to nothing too; less is said to be less."""
    return f"{p:.0%}" if p >= 0.0995 else f"{100 * p:.2g}%" if p >= 1e-6 else "<0.0001%"


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
