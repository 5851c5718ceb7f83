"""A run: one folder that holds its settings, its history and its checkpoints."""

import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from glassgpt.checkpoint.commit import clear_unfinished, remove_folder
from glassgpt.checkpoint.files import OPTIMIZER, STATE, TOKENIZER, read_json, verify_checkpoint
from glassgpt.checkpoint.metrics import read_metrics
from glassgpt.config import RunConfig, config_text
from glassgpt.config.load import load_config, why_not_whole
from glassgpt.config.plain import parse_json, typed
from glassgpt.disk import DiskError, as_argument, replace_file, size_of
from glassgpt.errors import CheckpointError, DamageError, MachineError

STEP_FOLDER = re.compile(r"step-(\d{8,})")
RUNS = Path("runs")
LOCK = ".lock"
# Of a file system that knows no locks, such as some network ones.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
# What is read again from result.json; more stands there. `tokens_per_second` is that of the whole loop, validations and
# samples included; the lines of metrics.jsonl have that of the steps alone.
RESULT: dict[str, Any] = {
    "val_loss": float, "best_val_loss": float, "best_step": int, "steps": int, "tokens": int, "seconds": float,
    "tokens_per_second": float, "parameters": int,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.toml"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def result_file(self) -> Path:
        return self.folder / "result.json"

    @property
    def samples_folder(self) -> Path:
        return self.folder / "samples"

    @property
    def checkpoints_folder(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def best_file(self) -> Path:
        return self.checkpoints_folder / "best.json"

    def config(self) -> RunConfig:
        """Raises DamageError where config.toml is not what was written, ConfigError where it was edited to what no run can
        have."""
        if problem := why_not_whole(self.config_file):
            instead = (
                f"begin a new run with the weights that it saved: glassgpt train TEXT --from {as_argument(self.folder)}"
                if self.steps()
                else "since nothing was saved here yet, delete the folder and train again"
            )
            raise DamageError(f"{self.config_file} {problem}; bring back the one that was written, or {instead}")
        return load_config(self.config_file)

    def write_config(self, config: RunConfig) -> None:
        replace_file(self.config_file, config_text(config).encode())

    def write_result(self, result: dict[str, Any]) -> None:
        replace_file(self.result_file, (json.dumps(result, indent=1) + "\n").encode())

    def result(self) -> dict[str, Any] | None:
        """What a complete run says of itself, None where it is not complete, or its result.json not whole."""
        try:
            content: dict[str, Any] = parse_json(self.result_file.read_text(encoding="utf-8"))
            kind = "accuracy" if "accuracy" in content else "bits_per_byte"
            for name in (*RESULT, kind, f"baseline_{kind}"):
                typed(RESULT.get(name, float), content[name], name)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return {"task": "text"} | content  # which the first versions did not say

    def checkpoint_folder(self, step: int) -> Path:
        return self.checkpoints_folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, oldest first."""
        if not self.checkpoints_folder.exists():
            return []
        if not self.checkpoints_folder.is_dir():
            raise DamageError(f"{self.checkpoints_folder} is no folder, and checkpoints lie in one; bring it back")
        names = (STEP_FOLDER.fullmatch(entry.name) for entry in self.checkpoints_folder.iterdir() if entry.is_dir())
        return sorted(int(match[1]) for match in names if match)

    def best(self) -> dict[str, Any] | None:
        """{"step": ..., "val_loss": ...} of the best checkpoint, or None before the first validation. Where best.json is
        damaged or gone, it follows from metrics.jsonl."""
        return self.written_best() or self.best_of_metrics()

    def written_best(self) -> dict[str, Any] | None:
        """What best.json says; None where it is damaged or not there."""
        try:
            best = parse_json(self.best_file.read_text(encoding="utf-8") if self.best_file.is_file() else "")
            return {name: typed(kind, best[name], name) for name, kind in (("step", int), ("val_loss", float))}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def best_of_metrics(self) -> dict[str, Any] | None:
        """The same from metrics.jsonl alone."""
        steps = set(self.steps())
        validated = [line for line in self.metrics() if "val_loss" in line and line["step"] in steps]
        best = min(validated, key=lambda line: line["val_loss"], default=None)
        return {"step": best["step"], "val_loss": best["val_loss"]} if best else None

    def metrics(self) -> list[dict[str, Any]]:
        return read_metrics(self.metrics_file)

    def write_best(self, step: int, val_loss: float) -> None:
        replace_file(self.best_file, (json.dumps({"step": step, "val_loss": val_loss}) + "\n").encode())

    def last_whole_checkpoint(self) -> tuple[Path | None, dict[Path, str]]:
        """The newest checkpoint that verifies, and why each newer one does not."""
        damaged = self.no_folders()
        for step in reversed(self.steps()):
            folder = self.checkpoint_folder(step)
            reason = self.problem_of(step)
            if reason is None:
                return folder, damaged
            damaged[folder] = reason
        return None, damaged

    def no_folders(self) -> dict[Path, str]:
        """What is named as a checkpoint is, and is none: it stands where one may have to be saved."""
        if not self.checkpoints_folder.is_dir():
            return {}
        named = [entry for entry in self.checkpoints_folder.iterdir() if STEP_FOLDER.fullmatch(entry.name)]
        return {entry: "it is no folder" for entry in sorted(named) if not entry.is_dir()}

    def problem_of(self, step: int, without: Container[str] = ()) -> str | None:
        """Why the checkpoint of `step` is not whole, or None. Files in `without` are not looked at."""
        folder = self.checkpoint_folder(step)
        reason = verify_checkpoint(folder, without, needed=(OPTIMIZER, TOKENIZER))
        if reason is not None:
            return reason
        try:
            said = read_json(folder / STATE).get("step")
        except CheckpointError as error:
            return str(error)
        return (
            None
            if said == step
            else f"{STATE} is of step {said}: the folder was renamed, or files of another one were put into it"
        )

    def require_newest(self, path: Path) -> None:
        """That a checkpoint which was named for going on is what a run would go on from. Raises CheckpointError."""
        named = STEP_FOLDER.fullmatch(path.resolve().name)
        newer = [step for step in self.steps() if named and step > int(named[1])]
        if newer:
            names = ", ".join(self.checkpoint_folder(step).name for step in newer)
            raise CheckpointError(
                f"{path} is not the newest checkpoint, and a run goes on from that; to go back to this one, move the newer "
                f"ones ({names}) out of {self.checkpoints_folder} first"
            )

    def put_aside(self, folder: Path) -> Path:
        """Rename a damaged checkpoint, so that its step can be saved again and nothing takes it for a whole one. Kept,
        since whatever harmed it may have left its weights readable."""
        number = 1
        while (aside := folder.with_name(f"damaged-{folder.name}" + (f"-{number}" if number > 1 else ""))).exists():
            number += 1
        folder.rename(aside)
        return aside

    def require_writable(self) -> None:
        """Said before the text is read and the model built, not by whatever is written first."""
        for path in (self.folder / LOCK, self.metrics_file, self.best_file, self.result_file):
            if path.is_dir():
                raise MachineError(f"{path} is a folder, and a run that is trained writes a file there; move it away")
        for path in (self.checkpoints_folder, self.samples_folder):
            if path.exists() and not path.is_dir():
                raise MachineError(f"{path} is no folder, and a run that is trained writes into it; move it away")
        for path in (self.folder, self.checkpoints_folder, self.metrics_file):
            if path.exists() and not os.access(path, os.W_OK):
                raise MachineError(
                    f"{path} cannot be written to, and a run that is trained writes there; make all of {self.folder} writable "
                    "(its rights, or how its disk is mounted), or copy it elsewhere and resume the copy"
                )

    def require_room(self, checkpoint: Path) -> None:
        """For one more as large as this one, before the steps that it would hold; a new run finds out by its step 0."""
        needed = size_of(checkpoint)
        if shutil.disk_usage(self.folder).free < needed:
            raise DiskError(self.checkpoints_folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), needed)

    def problem_of_room(self, keep: int, saves: float) -> str | None:
        """In words, that there is none for all checkpoints that will lie here at once: the newest `keep`, the best one, and
        the one that is being written; or for as many as are still to come."""
        steps, free = self.steps(), shutil.disk_usage(self.folder).free
        needed = min(keep + 2 - len(steps), saves) * size_of(self.checkpoint_folder(steps[-1]))
        if needed <= free:
            return None
        return (
            f"the disk may be full before the run is over: the newest {keep} checkpoints, the best one and the one that is "
            f"being written take up to {needed / 1e6:,.1f} MB more, and {free / 1e6:,.1f} MB are free; make room"
            + (", or keep fewer (--keep-checkpoints 1)" if keep > 1 else "")
        )

    def prune(self, keep: int) -> str | None:
        """Remove all but the newest `keep` checkpoints and the best one; what could not be removed, in words, or None. Nothing
        is removed unless one that stays is whole: those on the disk may have been damaged since they were written.
        What a killed save or removal left goes too, so nothing may be saved meanwhile."""
        try:
            clear_unfinished(self.checkpoints_folder)
            best, steps = self.best(), self.steps()
            kept = [step for step in steps if step in steps[-keep:] or (best and step == best["step"])]
            if kept != steps and all(self.problem_of(step) for step in reversed(kept)):
                why = self.problem_of(kept[-1])
                return f"no checkpoint is removed, since none of those that would stay is whole: {why}"
            for step in steps:
                if step not in kept:
                    remove_folder(self.checkpoint_folder(step))
        except OSError as error:  # on Windows somebody may be reading it; the next time will do
            what = error.filename or self.checkpoints_folder
            return f"{what} could not be removed ({error.strerror}); training goes on"
        return None

    @contextmanager
    def locked(self, report: Callable[[str], object] = warnings.warn) -> Iterator[None]:
        """While open, no other process can train this run; the system ends the lock with the process, however it ends.
        `report` is handed a line where it cannot be locked. Raises MachineError where nothing can be written to it."""
        self.require_writable()
        lock = FileLock(self.folder / LOCK)
        try:
            # It warns before it takes the mere presence of a file for a lock, which a kill or a copied run leaves for ever.
            with warnings.catch_warnings(action="error", category=UserWarning):
                lock.acquire(blocking=False)
        except Timeout:
            raise CheckpointError(
                f"{self.folder} is being trained by another process right now; wait for it, or stop it with Ctrl-C"
            ) from None
        except (NotImplementedError, OSError, UserWarning) as problem:
            if isinstance(problem, OSError) and problem.errno not in NO_LOCKS:
                raise DiskError(self.folder / LOCK, problem) from problem
            report(
                f"{self.folder} is where nothing can be locked: another process could train it at the same time; see to it "
                "that none does"
            )
            yield
            return
        try:
            yield
        finally:
            lock.release()
