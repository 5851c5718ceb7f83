"""From a model to text."""

from glassgpt.generate.chat import Chat, load_chat
from glassgpt.generate.classify import TextClassifier, Verdict, load_classifier
from glassgpt.generate.decoder import decode
from glassgpt.generate.engine import Engine, SamplingSettings, load_run
from glassgpt.generate.sampling import sample

__all__ = [
    "Chat",
    "Engine",
    "SamplingSettings",
    "TextClassifier",
    "Verdict",
    "decode",
    "load_chat",
    "load_classifier",
    "load_run",
    "sample",
]
