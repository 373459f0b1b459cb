"""Reading cases from files, a row at a time in constant memory: JSONL, CSV, TSV, JSON, Parquet, text, each also gzipped; or from memory."""

from runmgr.batch.inputs.source import (
    FORMATS,
    FileSource,
    FilesSource,
    Row,
    RowsSource,
    Source,
    StdinSource,
    open_source,
    open_sources,
)

__all__ = (
    "FORMATS",
    "FileSource",
    "FilesSource",
    "Row",
    "RowsSource",
    "Source",
    "StdinSource",
    "open_source",
    "open_sources",
)
