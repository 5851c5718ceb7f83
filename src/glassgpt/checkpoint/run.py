"""A run: one folder that holds its settings, its history and its checkpoints."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassgpt.checkpoint.commit import remove_folder, verify_folder, write_text
from glassgpt.config import RunConfig, build_config, config_text
from glassgpt.errors import CheckpointError, ConfigError, MachineError

STEP_FOLDER = re.compile(r"step-(\d{8,})")
RUNS = Path("runs")


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
        return build_config(file=self.config_file)

    def write_config(self, config: RunConfig) -> None:
        write_text(self.config_file, config_text(config))

    def write_result(self, result: dict[str, Any]) -> None:
        write_text(self.result_file, json.dumps(result, indent=1) + "\n")

    def checkpoint_folder(self, step: int) -> Path:
        return self.checkpoints_folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, oldest first."""
        if not self.checkpoints_folder.is_dir():
            return []
        names = (STEP_FOLDER.fullmatch(entry.name) for entry in self.checkpoints_folder.iterdir() if entry.is_dir())
        return sorted(int(match[1]) for match in names if match)

    def best(self) -> dict[str, Any] | None:
        """{"step": ..., "val_loss": ...} of the best checkpoint, or None before the first validation."""
        try:
            best = json.loads(self.best_file.read_text(encoding="utf-8"))
            return {"step": int(best["step"]), "val_loss": float(best["val_loss"])}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(
                f'{self.best_file} cannot be read; it has to say {{"step": ..., "val_loss": ...}}; name a checkpoint instead'
            ) from None

    def write_best(self, step: int, val_loss: float) -> None:
        write_text(self.best_file, json.dumps({"step": step, "val_loss": val_loss}) + "\n")

    def last_whole_checkpoint(self) -> tuple[Path | None, list[str]]:
        """The newest checkpoint that verifies, and why each newer one was passed over."""
        rejected: list[str] = []
        for step in reversed(self.steps()):
            folder = self.checkpoint_folder(step)
            reason = verify_folder(folder)
            if reason is None:
                return folder, rejected
            rejected.append(f"checkpoint {folder.name} is passed over: {reason}")
        return None, rejected

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` checkpoints and the best one."""
        best = self.best()
        kept = set(self.steps()[-keep:]) | ({best["step"]} if best else set())
        for step in self.steps():
            if step not in kept:
                remove_folder(self.checkpoint_folder(step))


def create_run(folder: Path | None, name: str) -> Run:
    """A new run folder: the one that was asked for, or the next free `runs/NAME-N`. An existing one is refused."""
    if folder is not None:
        if folder.exists():
            raise ConfigError(
                f"{folder} is already there, and a run is never overwritten; choose another --out, or resume it"
            )
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise MachineError(f"{folder} cannot be made ({error.strerror}); choose another --out") from None
        return Run(folder)
    taken = [
        int(match[1])
        for entry in (RUNS.iterdir() if RUNS.is_dir() else ())
        if (match := re.fullmatch(re.escape(name) + r"-(\d+)", entry.name))
    ]
    number = max(taken, default=0) + 1
    while True:
        folder = RUNS / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another run was quicker
            number += 1
            continue
        return Run(folder)


def open_run(folder: Path | None) -> Run:
    """The run at `folder`; None: the newest one under runs/."""
    if folder is None:
        runs = [entry for entry in RUNS.iterdir() if (entry / "config.toml").is_file()] if RUNS.is_dir() else []
        if not runs:
            raise CheckpointError("there is no run under runs/ yet; train one with: glassgpt train")
        folder = max(runs, key=lambda entry: (entry / "config.toml").stat().st_mtime)
    if not folder.exists():
        raise CheckpointError(f"run {folder} is not there; {_existing_runs()}")
    if not (folder / "config.toml").is_file():
        raise CheckpointError(f"{folder} is not a run: it has no config.toml; {_existing_runs()}")
    return Run(folder)


def find_checkpoint(path: Path | None) -> Path:
    """The checkpoint folder that RUN means for sampling and inspection: itself, or the best one of the run, or its last."""
    if path is not None and (path / "model.safetensors").is_file():
        return path
    run = open_run(path)
    best = run.best()
    if best and (folder := run.checkpoint_folder(best["step"])).is_dir():
        reason = verify_folder(folder)
        if reason:
            others = ", ".join(str(run.checkpoint_folder(step)) for step in run.steps() if step != best["step"])
            raise CheckpointError(
                f"{folder} is damaged: {reason}; name another checkpoint ({others or 'there is none'})"
            )
        return folder
    last, _ = run.last_whole_checkpoint()
    if last is None:
        raise CheckpointError(f"{run.folder} has no checkpoint yet; go on with: glassgpt resume {run.folder}")
    return last


def _existing_runs() -> str:
    names = sorted(str(entry) for entry in RUNS.iterdir() if entry.is_dir()) if RUNS.is_dir() else []
    return (
        f"there are: {', '.join(names[-8:])}"
        if names
        else "there is none under runs/ yet; train one with: glassgpt train"
    )
