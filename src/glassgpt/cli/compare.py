"""`glassgpt compare`: several runs side by side, on one page and in the terminal."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.page import page_file

PAGE = Path("compare.html")


def compare(
    *runs: Annotated[Path, Parameter(help="two runs or more, whether complete or not")],
    out: Annotated[Path, Parameter(help="the page; one of an earlier comparison is replaced [compare.html]")] = PAGE,
) -> None:
    """Runs side by side: their figures with the best marked, the settings that differ, their loss against steps, tokens and
    time, their samples at the end. One self-contained HTML page, and the tables also here."""
    from rich.console import Console

    from glassgpt.disk import replace_file
    from glassgpt.inspection import compare_runs, render, run_with_figures

    page_file(out, "compare")
    data = compare_runs([run_with_figures(run) for run in runs])
    replace_file(out, render("compare.html", data).encode())
    console = Console(highlight=False)
    for part in tables(data):
        console.print(part)
    for note in data["notes"]:
        print(note)
    print(f"written to {out}: open it in a browser")


def tables(data: dict[str, Any]) -> list[Any]:
    """What the runs reached, with a star at the best, and the settings that differ."""
    from rich.table import Column, Table
    from rich.text import Text

    names = [run["name"] for run in data["runs"]]

    def columns(justify: Any) -> list[Column]:
        return [
            Column("", no_wrap=True),
            *(Column(Text(name), justify=justify, overflow="fold") for name in names),
        ]

    results = Table(*columns("right"), box=None, padding=(0, 2))
    results.add_row("complete", *("yes" if run["complete"] else "no" for run in data["runs"]))
    for row in data["rows"]:
        best = [i in row["best"] for i in range(len(names))]
        words = zip(row["words"], best, strict=True)
        results.add_row(row["label"], *(Text(f"* {text}" if b else text, "bold" if b else "") for text, b in words))
    settings = Table(*columns("left"), box=None, padding=(0, 2))
    for row in data["differ"]:
        settings.add_row(row["name"], *(Text(value or "(none)") for value in row["values"]))
    return [
        "Results; a star: the best of what compares", results, "",
        f"Settings that differ; {data['equal']} others are equal", settings, "",
    ]  # fmt: skip
