"""``ModelMessagesTypeAdapter``: histories to and from JSON and dicts, by the methods of pydantic's ``TypeAdapter``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec

from runmgr.messages.codec import ModelMessage, decode_messages, encode_messages, from_plain, to_plain
from runmgr.messages.requests import ModelRequest
from runmgr.messages.responses import ModelResponse
from runmgr.structs import json_schema

__all__ = ("MessagesTypeAdapter", "ModelMessagesTypeAdapter")


class MessagesTypeAdapter:
    """Reads and writes lists of messages in Pydantic AI's wire format, both ways.

    Everything that fails to validate raises pydantic's ``ValidationError``, which is a ``ValueError``. Keyword
    arguments of pydantic's adapter that are not listed have no meaning here and are not accepted.
    """

    __slots__ = ()

    def validate_json(self, data: str | bytes | bytearray, /) -> list[ModelMessage]:
        """A history from JSON: ours, Pydantic AI's or that of its older versions."""
        return decode_messages(bytes(data) if isinstance(data, bytearray) else data)

    def validate_python(self, object: Any, /) -> list[ModelMessage]:
        """A history from a list of dicts or messages; messages are taken as they are, not copied."""
        if isinstance(object, list):
            items = cast("list[Any]", object)
            if all(isinstance(item, (ModelRequest, ModelResponse)) for item in items):
                return items.copy()
        return from_plain(object, list[ModelMessage])

    def dump_json(
        self,
        instance: Sequence[ModelMessage],
        /,
        *,
        indent: int | None = None,
        exclude_none: bool = False,
    ) -> bytes:
        """JSON of a history.

        Args:
            instance: the messages.
            indent: spaces a level, or None for one line.
            exclude_none: leave out what is null.
        """
        data = encode_messages(instance)
        if exclude_none:
            data = json.dumps(
                _without_none(json.loads(data)), ensure_ascii=False, separators=(",", ":")
            ).encode()
        if indent is not None:
            data = msgspec.json.format(data, indent=indent)
        return data

    def dump_python(
        self,
        instance: Sequence[ModelMessage],
        /,
        *,
        mode: Literal["json", "python"] = "python",
        exclude_none: bool = False,
    ) -> list[dict[str, Any]]:
        """A history as dicts.

        Args:
            instance: the messages.
            mode: ``'python'`` keeps dates and bytes; ``'json'`` holds only what JSON has.
            exclude_none: leave out what is None.
        """
        plain = to_plain(list(instance), json=mode == "json")
        return _without_none(plain) if exclude_none else plain

    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of a history, without references."""
        return json_schema(list[ModelMessage])

    def __repr__(self) -> str:
        return "ModelMessagesTypeAdapter"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_without_none(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


ModelMessagesTypeAdapter = MessagesTypeAdapter()
"""Reads and writes histories; see :class:`MessagesTypeAdapter`."""
