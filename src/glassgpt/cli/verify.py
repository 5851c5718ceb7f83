"""`glassgpt verify`: whether every checkpoint of a run is still what was written."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def verify(
    run: Annotated[Path | None, Parameter(help="a run or one checkpoint; the newest run where nothing is said")] = None,
    /,
) -> None:
    """Read every file of every checkpoint again and compare it with what was written. Exit code 0: all are whole; 1: some are
    damaged."""
    from glassgpt.checkpoint import PARENT, as_argument, verify_run
    from glassgpt.errors import DamageError

    found = verify_run(run)
    width = max(len(str(entry.folder)) for entry in found)
    for entry in found:
        print(f"{entry.folder!s:{width}}  {entry.bytes / 1e6:>10,.1f} MB  {entry.problem or 'whole'}")
    damaged = [entry for entry in found if entry.problem]
    if damaged:
        whole = [entry.folder for entry in found if not entry.problem and entry.folder.name != PARENT]
        left = f"the newest whole one is {as_argument(whole[-1])}" if whole else "none is whole"
        raise DamageError(f"{len(damaged)} of {len(found)} checkpoints are damaged; {left}")
