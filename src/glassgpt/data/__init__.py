"""Text -> token files -> batches. `prepare` and `prepare_cached` write a DataFolder, `load_data` opens one."""

from typing import TYPE_CHECKING, Any

from glassgpt.data.corpus import Corpus, open_corpus
from glassgpt.data.counting import CountingBaseline, counting_baseline, counting_bits_per_byte
from glassgpt.data.documents import Document
from glassgpt.data.folder import DataFolder, load_data
from glassgpt.data.meta import DataMeta
from glassgpt.data.prepare import Progress, prepare, prepare_cached
from glassgpt.data.sources import Skipped, is_prepared, path_as_source, text_name
from glassgpt.data.summary import Summary, summarize

if TYPE_CHECKING:
    from glassgpt.data.batches import IGNORE_INDEX, Batch, Batches, validation_windows
    from glassgpt.data.examples import Examples
    from glassgpt.data.feed import training_batches, validation_batches, validation_tokens

__all__ = [
    "IGNORE_INDEX",
    "Batch",
    "Batches",
    "Corpus",
    "CountingBaseline",
    "DataFolder",
    "DataMeta",
    "Document",
    "Examples",
    "Progress",
    "Skipped",
    "Summary",
    "counting_baseline",
    "counting_bits_per_byte",
    "is_prepared",
    "load_data",
    "open_corpus",
    "path_as_source",
    "prepare",
    "prepare_cached",
    "summarize",
    "text_name",
    "training_batches",
    "validation_batches",
    "validation_tokens",
    "validation_windows",
]

# Torch's, which takes seconds to load: preparing text does without it.
_HOMES = {
    **dict.fromkeys(("IGNORE_INDEX", "Batch", "Batches", "validation_windows"), "batches"),
    "Examples": "examples",
    **dict.fromkeys(("training_batches", "validation_batches", "validation_tokens"), "feed"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"glassgpt.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
