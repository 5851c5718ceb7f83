"""From a model to text."""

from glassgpt.generate.decoder import decode
from glassgpt.generate.engine import Engine, SamplingSettings, load_run
from glassgpt.generate.sampling import sample

__all__ = ["Engine", "SamplingSettings", "decode", "load_run", "sample"]
