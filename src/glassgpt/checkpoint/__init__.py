"""A run on disk: complete, verifiable, never half-written."""

from glassgpt.checkpoint.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_model,
    load_tensors,
    merge_checkpoint,
    read_json,
    save_checkpoint,
    save_tensors,
    verify_checkpoint,
    whole_weights,
)
from glassgpt.checkpoint.commit import commit_folder, require_free, unwritten, verify_folder, write_text
from glassgpt.checkpoint.find import as_argument, find_checkpoint, open_run, run_of, verify_run
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
    "load_tensors",
    "merge_checkpoint",
    "open_run",
    "read_json",
    "require_free",
    "run_of",
    "save_checkpoint",
    "save_tensors",
    "unwritten",
    "verify_checkpoint",
    "verify_folder",
    "verify_run",
    "whole_weights",
    "write_text",
]
