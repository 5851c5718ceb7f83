"""`glassgpt verify`: whether every checkpoint of a run is still what was written."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def verify(
    run: Annotated[Path | None, Parameter(help="a run or one checkpoint; the newest run where nothing is said")] = None,
    /,
) -> None:
    """Read every file of every checkpoint again and compare it with what was written, and see whether the run's own files can
    be read. Exit code 0: all is whole; 1: something is damaged."""
    from glassgpt.checkpoint import PARENT, verify_run
    from glassgpt.disk import as_argument
    from glassgpt.errors import DamageError

    found = verify_run(run)
    width = max(len(str(entry.path)) for entry in found)
    for entry in found:
        print(f"{entry.path!s:{width}}  {entry.bytes / 1e6:>10,.1f} MB  {entry.problem or 'whole'}")
    checkpoints = [entry for entry in found if entry.is_checkpoint]
    damaged = [entry for entry in checkpoints if entry.problem]
    files = ", ".join(entry.path.name for entry in found if not entry.is_checkpoint)
    if damaged:
        whole = [entry.path for entry in checkpoints if not entry.problem and entry.path.name != PARENT]
        left = f"the newest whole one is {as_argument(whole[-1])}" if whole else "none is whole"
        also = f"; damaged beside them: {files}" if files else ""
        raise DamageError(f"{len(damaged)} of {len(checkpoints)} checkpoints are damaged; {left}{also}")
    if files:
        advice = "bring config.toml back" if "config.toml" in files else "a resume goes on all the same"
        if any(entry.path.is_dir() for entry in found if not entry.is_checkpoint):
            advice = "move away what is a folder and should be a file"
        raise DamageError(f"every checkpoint is whole, but damaged beside them: {files}; {advice}")
