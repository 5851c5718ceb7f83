"""A run on disk: complete, verifiable, never half-written."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassgpt.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from glassgpt.checkpoint.commit import commit_folder, require_free, verify_folder
    from glassgpt.checkpoint.files import PARENT, read_json, verify_checkpoint
    from glassgpt.checkpoint.find import find_checkpoint, open_run, run_of
    from glassgpt.checkpoint.new_run import check_new_run, create_run
    from glassgpt.checkpoint.run import Run
    from glassgpt.checkpoint.tensors import load_tensors, save_tensors
    from glassgpt.checkpoint.verify import verify_run
    from glassgpt.checkpoint.weights import load_model, load_weights, merge_checkpoint, whole_weights

# Found when asked for: whether a run is whole, or there at all, takes no torch to say.
_HOMES = {
    "Checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "commit_folder": "commit",
    "require_free": "commit",
    "verify_folder": "commit",
    "PARENT": "files",
    "read_json": "files",
    "verify_checkpoint": "files",
    "find_checkpoint": "find",
    "open_run": "find",
    "run_of": "find",
    "verify_run": "verify",
    "Run": "run",
    "check_new_run": "new_run",
    "create_run": "new_run",
    "load_tensors": "tensors",
    "save_tensors": "tensors",
    "load_model": "weights",
    "load_weights": "weights",
    "merge_checkpoint": "weights",
    "whole_weights": "weights",
}
__all__ = [
    "PARENT",
    "Checkpoint",
    "Run",
    "check_new_run",
    "commit_folder",
    "create_run",
    "find_checkpoint",
    "load_checkpoint",
    "load_model",
    "load_tensors",
    "load_weights",
    "merge_checkpoint",
    "open_run",
    "read_json",
    "require_free",
    "run_of",
    "save_checkpoint",
    "save_tensors",
    "verify_checkpoint",
    "verify_folder",
    "verify_run",
    "whole_weights",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"glassgpt.checkpoint.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
