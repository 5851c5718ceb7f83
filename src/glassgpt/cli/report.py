"""`glassgpt report`: one page of a run, and its figures in the terminal."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.flags import Device, RunToRead, given_text
from glassgpt.cli.page import WRITTEN_TOKENS, page_file

PAGE = Path("report.html")
LONGEST_QUOTED = 80  # characters of a prompt that is shown as a flag
# What was looked at, by where it came from.
WHOSE = {
    "asked": "the text of --prompt",
    "sample": "the first conversation for validation, with the model's last answer to it",
    "written": "what the model wrote by itself",
}


def report(
    run: RunToRead = None,
    /,
    *,
    prompt: Annotated[
        str | None,
        Parameter(
            help="text to look into the model with; -: standard input; none: what it writes itself",
            allow_leading_hyphen=True,
        ),
    ] = None,
    look: Annotated[bool, Parameter(help="look into the model, which takes the longest of a large one [on]")] = True,
    out: Annotated[Path, Parameter(help="the page; one of an earlier report is replaced [report.html]")] = PAGE,
    device: Device = "auto",
) -> None:
    """One self-contained HTML page of a run, whether complete or not: figures, curves, samples over time, settings,
    environment, and what `inspect` finds in its best checkpoint, if it writes text. The figures also here."""
    from rich.console import Console

    from glassgpt.cli.progress import PreparationDisplay
    from glassgpt.disk import replace_file
    from glassgpt.errors import ConfigError
    from glassgpt.inspection import render, report_run, run_with_figures
    from glassgpt.machine import decide_device, keep_freed_memory

    keep_freed_memory()
    page_file(out, "report")
    if prompt is not None and not look:
        raise ConfigError("--prompt is looked into, and --no-look says not to; leave one of them out")
    asked = given_text(prompt)
    decide_device(device)  # one that is not there is said before anything is read
    opened = run_with_figures(run)
    data: dict[str, Any] = report_run(opened) | {"found": None, "why": ""}
    if look and (asked or data["task"] != "labels"):  # --prompt is refused there, with what to do instead
        with PreparationDisplay() as display:
            sample = data["samples"][-1]["text"] if data["task"] == "conversations" and data["samples"] else ""
            data |= looked_into(run or opened.folder, asked, sample, device, display.on_prepare)
    replace_file(out, render("report.html", data).encode())
    print(f"{data['name']}: {data['standing']}")
    Console(highlight=False).print(table(data))
    if data["unknown"]:
        print(f"not known, since the run is not complete: {', '.join(data['unknown'])}")
    if data["why"]:
        print(f"not looked into: {data['why']}")
    elif data["found"]:
        found = data["found"]
        print(f"looked into {found['checkpoint']} with {found['whose']}; in full: {found['command']}")
    print(f"written to {out}: open it in a browser")


def looked_into(
    run: Path, prompt: str | None, sample: str, device: str, report: Callable[[str, float], None]
) -> dict[str, Any]:
    """{"found": what inspect finds, "why": why it finds nothing}. A report is worth having without it, unless a prompt was
    asked for. `sample` is looked at where no prompt is given, and what the model writes itself where there is no sample."""
    from glassgpt.checkpoint import find_checkpoint
    from glassgpt.cli.main import say
    from glassgpt.disk import as_argument
    from glassgpt.errors import GlassError, is_out_of_memory
    from glassgpt.generate import load_run
    from glassgpt.inspection import findings, look
    from glassgpt.inspection.subject import written_tokens

    whose = WHOSE["asked" if prompt else "sample" if sample else "written"]
    try:
        report("loading the model", 0.0)
        checkpoint = find_checkpoint(run, say)
        engine = load_run(checkpoint, device, say)
        report("looking into it", 0.0)
        text = prompt or sample
        tokens = engine.encode_prompt(text) if text else written_tokens(engine, WRITTEN_TOKENS)
        found = findings(look(engine, tokens, lambda what, done, of: report(what, done / of)))
    except (GlassError, MemoryError, RuntimeError) as error:
        if prompt or not (isinstance(error, GlassError) or is_out_of_memory(error)):
            raise
        return {"found": None, "why": str(error) if isinstance(error, GlassError) else "out of memory"}
    command = f"glassgpt inspect {as_argument(run)}" + (f" --prompt {quoted(text)}" if prompt or sample else "")
    found |= {"checkpoint": checkpoint.name, "whose": whose, "command": command}
    return {"found": found, "why": ""}


def quoted(text: str) -> str:
    """For a shell, where it fits into a line there."""
    from glassgpt.disk import as_argument

    return as_argument(text) if text.isprintable() and len(text) <= LONGEST_QUOTED else "TEXT"


def table(data: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    figures = Table(show_header=False, box=None, padding=(0, 2))
    for label, words in data["rows"]:
        figures.add_row(label, Text(words))
    if data["faults"]["count"]:
        figures.add_row("steps with a fault", f"{data['faults']['count']:,}, {data['faults']['skipped']:,} skipped")
    return figures
