"""`glassgpt resume`: go on where a run stopped."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli.flags import with_setting_flags
from glassgpt.config.changes import CHANGEABLE


def resume(
    run: Annotated[Path | None, Parameter(help="folder of the run; the newest one where nothing is said")] = None,
    /,
    **settings: Any,
) -> None:
    """Go on with a run from its last whole checkpoint. The result is the same, bit for bit, as without the break.

    A flag says that a setting is meant to differ from here on.
    """
    from glassgpt.checkpoint import open_run

    opened = open_run(run)  # a name that is wrong is said before torch is loaded
    if run is not None:
        opened.require_newest(run)
    from glassgpt.cli.display import TrainingDisplay, goodbye, training_sample
    from glassgpt.machine import keep_freed_memory
    from glassgpt.train import resume_run

    keep_freed_memory()
    with TrainingDisplay() as display:
        changes = {name: value for name, value in settings.items() if value is not None}
        finished = resume_run(opened, changes=changes, observers=[display], sample=training_sample)
    goodbye(finished)


resume = with_setting_flags(resume, CHANGEABLE, defaults=False)
