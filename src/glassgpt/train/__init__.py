"""The loop that turns a configuration and a text into a run."""

from glassgpt.train.observers import Observer
from glassgpt.train.resume import resume_run
from glassgpt.train.run import train_run

__all__ = ["Observer", "resume_run", "train_run"]
