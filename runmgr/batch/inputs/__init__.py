"""Reading cases from files, a row at a time in constant memory: JSONL, CSV, TSV, JSON, Parquet, text, each also gzipped."""

from runmgr.batch.inputs.source import FORMATS, FileSource, Row, Source, StdinSource, open_source

__all__ = ("FORMATS", "FileSource", "Row", "Source", "StdinSource", "open_source")
