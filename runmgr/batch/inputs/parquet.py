"""Parquet files, by the optional pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import IO, Any

from runmgr.exceptions import InputError

__all__ = ("parquet_rows",)

_BATCH_ROWS = 1024


def parquet_rows(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their 1-based numbers, a batch at a time.

    Raises:
        InputError: pyarrow is not installed, or the file is no Parquet.
    """
    try:
        pa: Any = import_module("pyarrow")  # untyped
        pq: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(
            "reading Parquet needs pyarrow: pip install 'runmgr[parquet]'", source=name
        ) from error
    number = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"not Parquet that can be read: {first}", source=name) from error
