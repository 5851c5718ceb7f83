"""Other people's files: one file per format, reading and writing side by side."""

from glassgpt.formats.exchange import TARGETS, export_model, import_model, read_model

__all__ = ["TARGETS", "export_model", "import_model", "read_model"]
