"""Delimited tables: CSV and TSV with a header line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from typing import IO, Any

from runmgr.batch.inputs.lines import MAX_LINE_BYTES, not_utf8
from runmgr.exceptions import InputError
from runmgr.report.text import plural

__all__ = ("csv_rows", "tsv_rows")


def csv_rows(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a comma-separated file, or of one whose header line has semicolons and no comma; every value is a string.

    Raises:
        InputError: a row has more or fewer cells than the header, the header repeats a name, a quote is not closed,
            or a line is not UTF-8.
    """
    return _rows(file, name, ",")


def tsv_rows(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """As ``csv_rows``, separated by tabs."""
    return _rows(file, name, "\t")


def _rows(file: IO[bytes], name: str, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = _Lines(file, name)
    first = next(lines, "")
    if delimiter == "," and ";" in first and "," not in first:
        delimiter = ";"  # as Excel writes it where the comma is the decimal point
    reader = csv.reader(chain((first,) if first else (), lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"not {_kind(delimiter)}: {error} (the row starts here)", source=name, line=start
            ) from error
        if cells is None:
            return
        if cells and header is None:
            header = _header(cells, name, start)
        elif cells:
            assert header is not None
            if len(cells) != len(header):
                raise InputError(
                    f"{plural(len(cells), 'cell')} where the header names {len(header)} ({', '.join(header)})",
                    source=name,
                    line=start,
                )
            yield start, dict(zip(header, cells, strict=True))
        start = reader.line_num + 1


def _header(cells: list[str], name: str, line: int) -> list[str]:
    seen: set[str] = set()
    for cell in cells:
        if not cell.strip():
            raise InputError("the header line has an empty name", source=name, line=line)
        if cell in seen:
            raise InputError(f"the header line names {cell!r} twice", source=name, line=line)
        seen.add(cell)
    return cells


def _kind(delimiter: str) -> str:
    return "TSV" if delimiter == "\t" else "CSV"


class _Lines:
    """Decoded lines for ``csv.reader``, with blank ones kept: a quoted cell may hold them."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE_BYTES)
        if not line:
            raise StopIteration
        self._number += 1
        try:
            text = line.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(error, self._name, self._number) from error
        if "\0" in text:
            raise InputError("the line holds a NUL character", source=self._name, line=self._number)
        return text
