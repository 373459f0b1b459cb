"""Events to JSON and back, across versions: a field that is new is passed over, a tag that is new becomes `UnknownEvent`."""

from __future__ import annotations

from typing import Any, cast, get_args

import msgspec

from .events import KnownEvent, RunEvent, UnknownEvent

__all__ = ("decode_event", "encode_event")

_encoder = msgspec.json.Encoder(enc_hook=repr)
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(KnownEvent)
_TAGS = frozenset(kind.__struct_config__.tag for kind in get_args(KnownEvent))


def encode_event(event: RunEvent) -> bytes:
    """An event as JSON. What has no JSON form of its own (an outcome's output) is its repr."""
    if isinstance(event, UnknownEvent):
        return _encoder.encode({"type": event.tag, **event.fields})
    return _encoder.encode(event)


def decode_event(data: bytes | str) -> RunEvent:
    """An event from its JSON. Usage, messages and outputs come back as plain data.

    Raises:
        ValueError: it is no JSON, or a known event with fields of the wrong type.
    """
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(data)
        if not isinstance(fields, dict):
            raise
        plain = cast("dict[str, Any]", fields)
        if plain.get("type") in _TAGS:
            raise
        return UnknownEvent(tag=str(plain.pop("type", "")), fields=plain)
