"""A JSON file that is one array of objects, read an element at a time."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from runmgr.batch.inputs.lines import MAX_LINE_BYTES, kind_of, not_utf8, shown
from runmgr.exceptions import InputError

__all__ = ("array_rows",)

_CHUNK = 64 * 1024
_SPACE = " \t\r\n"


def array_rows(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Elements of the array with the line on which each starts; holds about one element and one chunk at a time.

    Raises:
        InputError: it is no array of objects, is cut short, or is not UTF-8.
    """
    text = _Window(file, name)
    first = text.next_char()
    if first is None:
        return
    if first != "[":
        hint = "; rename it to .jsonl if it holds an object a line" if first == "{" else ""
        raise text.error(f"a .json file must be one array of objects, this starts with {first!r}{hint}")
    text.skip()
    if text.next_char() == "]":
        text.skip()
    else:
        while True:
            line = text.line
            value = text.value()
            if not isinstance(value, dict):
                raise InputError(
                    f"the array's elements must be objects, this is {kind_of(value)}", source=name, line=line
                )
            yield line, value
            following = text.next_char()
            if following is None:
                raise text.error("the file ends inside the array: the closing ']' is missing")
            text.skip()
            if following == "]":
                break
            if following != ",":
                raise text.error(f"',' or ']' is needed after an element, this is {following!r}")
            text.next_char()
    if text.next_char() is not None:
        raise text.error("something follows the array's closing ']'")


class _Window:
    """The unread part of a file as text; grows when an element does not end in it."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._buffer = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def error(self, message: str) -> InputError:
        return InputError(message, source=self._name, line=self.line)

    def skip(self) -> None:
        self._at += 1

    def next_char(self) -> str | None:
        """The next character that is no white space, not consumed; None at the end of the file."""
        while True:
            while self._at < len(self._buffer):
                char = self._buffer[self._at]
                if char not in _SPACE:
                    return char
                self.line += char == "\n"
                self._at += 1
            if not self._fill(_CHUNK):
                return None

    def value(self) -> Any:
        """The JSON value that starts here."""
        size = _CHUNK
        while True:
            try:
                value, end = self._json.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._may_go_on(error) and self._fill(size):
                    size *= 2
                    continue
                self.line += self._buffer.count("\n", self._at, error.pos)
                cut = " (the file ends here)" if self._may_go_on(error) else ""
                raise self.error(f"not JSON: {error.msg}{cut}: {shown(self._buffer[self._at :])}") from error
            except (ValueError, RecursionError) as error:
                raise self.error(f"not JSON that can be read: {error}") from error
            self.line += self._buffer.count("\n", self._at, end)
            self._at = end
            return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether more text could mend it: it broke at the end of what was read."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - 12

    def _fill(self, size: int) -> bool:
        if self._ended:
            return False
        if len(self._buffer) - self._at > MAX_LINE_BYTES:
            raise self.error(f"an element is longer than {MAX_LINE_BYTES // 2**20} MiB")
        data = self._file.read(size)
        try:
            more = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise not_utf8(error, self._name, self.line) from error
        self._ended = not data
        self._buffer = self._buffer[self._at :] + more
        self._at = 0
        return not self._ended
