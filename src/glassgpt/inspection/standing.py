"""How far a run is, and what can be done with it: in one word, and in one line."""

from glassgpt.checkpoint import Run
from glassgpt.checkpoint.run import LOCK
from glassgpt.disk import as_argument
from glassgpt.errors import CheckpointError, MachineError


def standing_of(run: Run, complete: bool, logged: int, max_steps: int) -> tuple[str, str]:
    """`logged` is the last step that has left figures, `max_steps` 0 where it is not decided yet. A run that a signal
    stops is saved at its very step; one that is killed leaves lines of steps that are not saved."""
    saved = max(run.steps(), default=None)
    step = max(logged, saved or 0)
    at = f"step {step:,} of {max_steps:,}" if max_steps else f"step {step:,}"
    resume = f"glassgpt resume {as_argument(run.folder)}"
    if complete:
        return "complete", f"Complete, after {step:,} step{'s' if step > 1 else ''}."
    under_way = is_under_way(run)
    if under_way:
        return "being trained", f"Being trained right now, at {at}."
    if under_way is None:
        return "running or stopped", f"Still being trained, or stopped, at {at}; if it was stopped, to go on: {resume}"
    if saved is None:
        return "broken off", (
            f"Broken off at {at}, and without a checkpoint that it could go on from; to begin again in a new folder: "
            f"glassgpt train --config {as_argument(run.config_file)}"
        )
    if saved < step:
        return "broken off", (
            f"Broken off (killed, or ended by an error) at {at} or soon after; to go on from step {saved:,}, which is "
            f"saved: {resume}"
        )
    if step == max_steps:
        return (
            "all but complete",
            f"All {step:,} steps are done and saved, its end (last validation, result) is not; to do it: {resume}",
        )
    return "stopped", f"Stopped, and saved at {at}; to go on from there: {resume}"


def is_under_way(run: Run) -> bool | None:
    """Whether a process trains it right now: it holds the lock. None where that cannot be known."""
    if not (run.folder / LOCK).is_file():
        return False
    unlockable: list[str] = []
    try:
        with run.locked(unlockable.append):
            return None if unlockable else False
    except CheckpointError:
        return True
    except MachineError:  # nothing can be written there, not even a lock
        return None
