"""Text -> token files -> batches. `prepare` and `prepare_cached` write a DataFolder, `load_data` opens one."""

from typing import TYPE_CHECKING, Any

from glassgpt.data.corpus import Corpus, open_corpus
from glassgpt.data.counting import CountingBaseline, counting_baseline, counting_bits_per_byte
from glassgpt.data.documents import Document
from glassgpt.data.prepare import Progress, prepare, prepare_cached
from glassgpt.data.sources import Skipped, is_prepared, path_as_source, text_name
from glassgpt.data.summary import Summary, summarize
from glassgpt.data.token_file import DataFolder, DataMeta, load_data

if TYPE_CHECKING:
    from glassgpt.data.batches import IGNORE_INDEX, Batch, Batches, validation_windows

__all__ = [
    "IGNORE_INDEX",
    "Batch",
    "Batches",
    "Corpus",
    "CountingBaseline",
    "DataFolder",
    "DataMeta",
    "Document",
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
    "validation_windows",
]


def __getattr__(name: str) -> Any:
    # Batches are torch's, and torch takes seconds to load: preparing text does without it.
    if name in ("IGNORE_INDEX", "Batch", "Batches", "validation_windows"):
        from glassgpt.data import batches

        return getattr(batches, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
