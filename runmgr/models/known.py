"""Reading what has parts of kinds that nobody told us of. Pure.

A provider may send a new kind of item, block or event at any time, whose fields share names with known ones and hold something else.
Known kinds are read strictly, so that nothing of an answer is lost in silence; only what is of an unknown kind is emptied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

__all__ = ("decode_known", "emptied")

T = TypeVar("T")


def decode_known(decoder: msgspec.json.Decoder[T], data: bytes, prune: Callable[[Any], None]) -> T:
    """Decode; where a field does not fit, once more without the contents of what ``prune`` does not know.

    Args:
        decoder: of the known shape.
        data: JSON.
        prune: empties, in place, what is of an unknown kind.

    Raises:
        msgspec.DecodeError: no JSON, or of another shape even so.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        raw = msgspec.json.decode(data)
        prune(raw)
        return decoder.decode(msgspec.json.encode(raw))


def emptied(holder: Any, name: str, known: frozenset[str]) -> None:
    """Leave only ``type`` of the object, or of each object in the list, at ``holder[name]`` whose type is not known."""
    if not isinstance(holder, dict):
        return
    there = cast("dict[str, Any]", holder)
    value = there.get(name)
    if isinstance(value, list):
        there[name] = [_emptied(item, known) for item in cast("list[Any]", value)]
    elif isinstance(value, dict):
        there[name] = _emptied(value, known)


def _emptied(value: Any, known: frozenset[str]) -> Any:
    if not isinstance(value, dict):
        return value
    kind = cast("dict[str, Any]", value).get("type")
    if isinstance(kind, str) and kind not in known:
        return {"type": kind}
    return cast("object", value)
