"""`glassgpt verify`: whether every file of a run is still what was written."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def verify(
    run: Annotated[Path | None, Parameter(help="a run or one checkpoint; the newest run where nothing is said")] = None,
    /,
) -> None:
    """Read every file of every checkpoint again and compare it with what was written. Exit code 0: all are whole; 1: some are
    damaged."""
    from rich.console import Console
    from rich.table import Table

    from glassgpt.checkpoint import as_argument, verify_run
    from glassgpt.errors import DamageError

    found = verify_run(run)
    table = Table("checkpoint", "MB", "", box=None, padding=(0, 2), pad_edge=False)
    for entry in found:
        table.add_row(str(entry.folder), f"{entry.bytes / 1e6:,.1f}", entry.problem or "whole")
    Console(soft_wrap=True).print(table)
    damaged = [entry for entry in found if entry.problem]
    if damaged:
        whole = [entry.folder for entry in found if not entry.problem]
        left = f"the newest whole one is {as_argument(whole[-1])}" if whole else "none is whole"
        raise DamageError(f"{len(damaged)} of {len(found)} checkpoints are damaged; {left}")
