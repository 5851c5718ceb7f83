"""`glassgpt merge`: adapters folded into the weights that they were trained beside."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def merge(
    run: Annotated[Path | None, Parameter(help="a run or one checkpoint; the newest run where nothing is said")] = None,
    /,
    *,
    out: Annotated[Path, Parameter(help="folder of the checkpoint that is made")],
) -> None:
    """Fold the adapters of a --lora run into its weights: an ordinary checkpoint, which computes the same."""
    from glassgpt.checkpoint import find_checkpoint, load_checkpoint, merge_checkpoint
    from glassgpt.cli.main import say
    from glassgpt.disk import as_argument
    from glassgpt.signals import unwinding

    checkpoint = load_checkpoint(find_checkpoint(run, say))
    with unwinding():
        merge_checkpoint(checkpoint, out)
    where = as_argument(out)
    print(f"{checkpoint.folder}, its adapters folded in, is now in {where}; use it: glassgpt {checkpoint.verb} {where}")
