"""Server-sent events, taken apart as they arrive: pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, with one tolerance: an event at the very end
that lacks its blank line counts.
"""

from __future__ import annotations

from runmgr.models.http.errors import MalformedResponse

__all__ = ("EventDecoder",)

_BOM = b"\xef\xbb\xbf"


class EventDecoder:
    """Bytes in, events out, wherever the bytes were cut.

    Args:
        limit: bytes that one event may have.
    """

    __slots__ = ("_data", "_event", "_limit", "_rest", "_size", "_start")

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._rest = b""
        self._start = True
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The events that are complete now: their types (empty where not given) and data. Events without data are none.

        Raises:
            MalformedResponse: an event is larger than the limit.
        """
        buffer = self._rest + data if self._rest else data
        if self._start:
            if len(buffer) < 3 and _BOM.startswith(buffer):
                self._rest = buffer
                return []
            self._start = False
            buffer = buffer.removeprefix(_BOM)
        held = b""
        if b"\r" in buffer:
            if buffer.endswith(b"\r"):  # the \n of a \r\n may be still to come
                buffer, held = buffer[:-1], b"\r"
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = buffer.split(b"\n")
        self._rest = lines.pop() + held
        if len(self._rest) + self._size > self._limit:
            raise MalformedResponse(f"an event of the stream is larger than {self._limit} bytes")
        events: list[tuple[bytes, bytes]] = []
        for line in lines:
            if line:
                self._line(line)
            elif self._data:
                events.append(self._take())
            else:
                self._event = b""
        return events

    def end(self) -> list[tuple[bytes, bytes]]:
        """The event that the end of the stream completes, if any."""
        events = self.feed(b"\n") if self._rest else []
        if self._data:
            events.append(self._take())
        return events

    def _take(self) -> tuple[bytes, bytes]:
        data = self._data
        event = self._event, data[0] if len(data) == 1 else b"\n".join(data)
        self._data = []
        self._size = 0
        self._event = b""
        return event

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._data.append(value)
            self._size += len(value)
            if self._size > self._limit:
                raise MalformedResponse(f"an event of the stream is larger than {self._limit} bytes")
        elif line.startswith(b"event:"):
            self._event = line[6:].removeprefix(b" ")
        elif line == b"data":
            self._data.append(b"")
        # comments (keep-alives), ids, retry times and unknown fields mean nothing to a single answer
