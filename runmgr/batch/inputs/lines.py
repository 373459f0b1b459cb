"""Formats of a row a line: JSONL and plain text."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import IO, Any

import msgspec
import trio

from runmgr.exceptions import InputError

__all__ = ("MAX_LINE_BYTES", "jsonl_rows", "jsonl_rows_from_fd", "text_rows")

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused rather than held in memory."""

_BOM = b"\xef\xbb\xbf"
_CHUNK = 256 * 1024
_decode = msgspec.json.Decoder().decode


def raw_lines(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Lines without their ends, with their 1-based numbers; blank lines are left out.

    Raises:
        InputError: a line is longer than ``MAX_LINE_BYTES``.
    """
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise _too_long(name, number)
        if number == 1 and line.startswith(_BOM):
            line = line[len(_BOM) :]
        line = line.strip()
        if line:
            yield number, line


def jsonl_rows(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a JSONL file.

    Raises:
        InputError: a line is no JSON, no object, or not UTF-8.
    """
    for number, line in raw_lines(file, name):
        yield number, decode_object(line, name, number)


async def jsonl_rows_from_fd(fd: int, name: str) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """Rows of JSONL from a file descriptor (a pipe, a terminal or a file), as they arrive.

    Raises:
        InputError: as ``jsonl_rows``.
    """
    rest = b""
    number = 0
    while True:
        chunk = await _read_some(fd)
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop() if chunk else b""
        if len(rest) > MAX_LINE_BYTES:
            raise _too_long(name, number + 1)
        for piece in pieces:
            number += 1
            line = piece.removeprefix(_BOM).strip() if number == 1 else piece.strip()
            if line:
                yield number, decode_object(line, name, number)
        if not chunk:
            return


async def _read_some(fd: int) -> bytes:
    try:
        await trio.lowlevel.wait_readable(fd)
    except OSError:  # a regular file: epoll does not take it, and it never blocks for long
        await trio.lowlevel.checkpoint()
    return os.read(fd, _CHUNK)


def text_rows(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line of a text file is the field ``prompt`` of a row.

    Raises:
        InputError: a line is not UTF-8.
    """
    for number, line in raw_lines(file, name):
        try:
            yield number, {"prompt": line.decode()}
        except UnicodeDecodeError as error:
            raise not_utf8(error, name, number) from error


def decode_object(line: bytes, name: str, number: int) -> dict[str, Any]:
    """The JSON object that a line holds.

    Raises:
        InputError: it holds none; says what is wrong and shows the start of the line.
    """
    try:
        value = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        value = _decode_again(line, name, number, error)
    if not isinstance(value, dict):
        raise InputError(
            f"a JSON object is needed, this is {kind_of(value)}: {shown(line)}", source=name, line=number
        )
    return value  # pyright: ignore[reportUnknownVariableType]


def _decode_again(line: bytes, name: str, number: int, error: Exception) -> Any:
    """The standard library's decoder takes a few things more (NaN, huge integers) and says where an error is."""
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as wrong:
        raise not_utf8(wrong, name, number) from error
    except json.JSONDecodeError as wrong:
        raise InputError(
            f"not JSON: {wrong.msg} (column {wrong.pos + 1}): {shown(line)}", source=name, line=number
        ) from error
    except (ValueError, RecursionError) as wrong:
        raise InputError(
            f"not JSON that can be read: {wrong}: {shown(line)}", source=name, line=number
        ) from error


def kind_of(value: object) -> str:
    """What a JSON value is called in a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def shown(line: bytes | str, limit: int = 60) -> str:
    """The start of a line, for a message."""
    text = line.decode(errors="replace") if isinstance(line, bytes) else line
    return repr(text if len(text) <= limit else text[:limit] + "...")


def not_utf8(error: UnicodeDecodeError, name: str, number: int | None) -> InputError:
    """Not UTF-8: which byte, and the way out."""
    byte = error.object[error.start]
    return InputError(
        f"not UTF-8: byte 0x{byte:02x} at byte {error.start + 1} of the line; "
        "convert the file first, e.g. iconv -f latin1 -t utf-8",
        source=name,
        line=number,
    )


def _too_long(name: str, number: int) -> InputError:
    return InputError(f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB", source=name, line=number)
