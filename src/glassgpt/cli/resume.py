"""`glassgpt resume`: go on where a run stopped."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def resume(
    run: Annotated[Path | None, Parameter(help="folder of the run; the newest one where nothing is said")] = None, /
) -> None:
    """Go on with a run from its last whole checkpoint. The result is the same, bit for bit, as without the break."""
    from glassgpt.checkpoint import open_run
    from glassgpt.cli.display import TrainingDisplay, goodbye, training_sample
    from glassgpt.train import resume_run

    with TrainingDisplay() as display:
        finished = resume_run(open_run(run), observers=[display], sample=training_sample)
    goodbye(finished)
