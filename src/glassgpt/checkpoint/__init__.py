"""A run on disk: complete, verifiable, never half-written."""

from glassgpt.checkpoint.checkpoint import Checkpoint, load_checkpoint, load_model, merge_checkpoint, save_checkpoint
from glassgpt.checkpoint.commit import commit_folder, verify_folder, write_text
from glassgpt.checkpoint.find import as_argument, find_checkpoint, open_run
from glassgpt.checkpoint.run import Run, check_new_run, create_run

__all__ = [
    "Checkpoint",
    "Run",
    "as_argument",
    "check_new_run",
    "commit_folder",
    "create_run",
    "find_checkpoint",
    "load_checkpoint",
    "load_model",
    "merge_checkpoint",
    "open_run",
    "save_checkpoint",
    "verify_folder",
    "write_text",
]
