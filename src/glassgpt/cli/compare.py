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
    for part in tables(data, console):
        console.print(part)
    for note in data["notes"]:
        print(note)
    for run in data["runs"]:
        if not run["complete"]:
            print(f"{run['name']}: {run['standing']}")
    print(f"written to {out}: open it in a browser")


def tables(data: dict[str, Any], console: Any) -> list[Any]:
    """What the runs reached, with a star at the best, and the settings that differ; below each other where the runs do not fit
    side by side."""
    from rich.text import Text

    runs, rows, differ = data["runs"], data["rows"], data["differ"]
    results = [("state", [Text(run["state"]) for run in runs])]
    for row in rows:
        marks = [i in row["best"] for i in range(len(runs))]
        words = zip(row["words"], marks, strict=True)
        results.append(
            (row["label"], [Text(f"* {text}" if best else text, "bold" if best else "") for text, best in words])
        )
    settings = [
        (row["name"], [Text("-" if value is None else value or "(none)") for value in row["values"]]) for row in differ
    ]
    names = [run["name"] for run in runs]
    parts: list[Any] = ["Results; a star: the best of what compares" if any(row["best"] for row in rows) else "Results"]
    parts += [*side_by_side(names, results, "right", console), ""]
    if not differ:
        return [*parts, f"All {data['equal']} settings are equal", ""]
    parts.append(f"Settings that differ; {data['equal']} others are equal" + explained(differ))
    return [*parts, *side_by_side(names, settings, "left", console), ""]


def side_by_side(names: list[str], rows: list[tuple[str, list[Any]]], justify: Any, console: Any) -> list[Any]:
    """One table, or as many below each other as it takes to leave every word and figure whole."""
    from rich.measure import Measurement
    from rich.table import Column, Table
    from rich.text import Text

    def table(shown: slice) -> Table:
        columns = [Column(Text(name), justify=justify, overflow="fold") for name in names[shown]]
        made = Table(Column("", no_wrap=True), *columns, box=None, padding=(0, 1))
        for label, cells in rows:
            made.add_row(label, *cells[shown])
        return made

    unlimited = console.options.update(width=10_000)
    for pieces in range(1, len(names) + 1):
        many = -(-len(names) // pieces)
        made = [table(slice(start, start + many)) for start in range(0, len(names), many)]
        if all(Measurement.get(console, unlimited, one).maximum <= console.width for one in made):
            break
    return made


def explained(differ: list[dict[str, Any]]) -> str:
    return "; -: plays no part in that run" if any(None in row["values"] for row in differ) else ""
