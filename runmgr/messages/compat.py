"""Reading what the fast decoder refuses: old names, dates and numbers in other spellings, instances among dicts.

What Pydantic AI 1.46 still accepts is accepted: ``vendor_details`` and ``vendor_id`` of responses, ``request_tokens``
and ``response_tokens`` of usages, null ``details``, dates as pydantic reads them (also Unix times), numbers as text.
Fields that nobody knows are dropped. Unknown kinds are errors that name the place and the kinds there are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec

from runmgr.messages.codec import ModelMessage, from_plain
from runmgr.messages.responses import ModelResponse
from runmgr.usage import RequestUsage, rename_old_keys

__all__ = ("convert", "load", "load_messages")

_RENAMED = (("vendor_details", "provider_details"), ("vendor_id", "provider_response_id"))
_RESPONSE_FIELDS = frozenset(ModelResponse.__struct_fields__) | {"kind"}
_USAGE_FIELDS = frozenset(RequestUsage.__struct_fields__)


def load_messages(data: bytes | str) -> list[ModelMessage]:
    """A history from JSON. Raises pydantic's ``ValidationError``, which is a ``ValueError``."""
    return load(data, list[ModelMessage])


def load(data: bytes | str, kind: Any) -> Any:
    """Anything made of message values from JSON. Raises pydantic's ``ValidationError``."""
    from pydantic_core import from_json

    try:
        plain = from_json(data)
    except ValueError as error:
        raise _invalid(f"Invalid JSON: {error}", data) from None
    return from_plain(plain, kind)


def convert(value: Any, kind: Any, dec_hook: Callable[[type, Any], Any]) -> Any:
    """``value``, made of dicts, lists and instances, as ``kind``. Raises pydantic's ``ValidationError``."""
    try:
        return msgspec.convert(_modern(value), kind, strict=False, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise _invalid(_explained(str(error)), value) from None


_KINDS = {
    ".part_kind`": (
        "in requests system-prompt, user-prompt, tool-return, retry-prompt; in responses text, thinking, tool-call, "
        "builtin-tool-call, builtin-tool-return, file"
    ),
    "].kind`": (
        "of messages request, response; of contents image-url, audio-url, document-url, video-url, binary, cache-point"
    ),
}


def _explained(error: str) -> str:
    """The decoder's words, which name the place and the value, and for a kind those that there are."""
    if error.startswith("Invalid value"):
        for field, kinds in _KINDS.items():
            if error.endswith(field):
                return f"{error}; known kinds: {kinds}"
    return error


def _invalid(message: str, value: Any) -> ValueError:
    from pydantic_core import PydanticCustomError, ValidationError

    error = PydanticCustomError("invalid_message", "{error}", {"error": message})
    return ValidationError.from_exception_data("ModelMessage", [{"type": error, "loc": (), "input": value}])


@cache
def _read_date() -> Callable[[Any], Any]:
    from datetime import datetime

    from pydantic import TypeAdapter

    return TypeAdapter(datetime).validate_python


def _modern(value: Any) -> Any:
    """``value`` with today's names; shares what it need not change and never changes what it was given."""
    if isinstance(value, (list, tuple)):
        return [_modern(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, dict):
        return value
    plain: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(plain.get("timestamp"), (str, int, float)):
        with suppress(ValueError):  # then the decoder refuses it, and names the place
            plain["timestamp"] = _read_date()(plain["timestamp"])
    for key in ("part", "result"):
        if isinstance(plain.get(key), dict):
            plain[key] = _modern(plain[key])
    parts = plain.get("parts")
    if isinstance(parts, (list, tuple)):
        plain["parts"] = [_modern(part) for part in parts]  # pyright: ignore[reportUnknownVariableType]
    if plain.get("kind") == "response":
        plain = _modern_response(plain)
    return plain


def _modern_response(plain: dict[str, Any]) -> dict[str, Any]:
    for old, new in _RENAMED:
        if old in plain:
            plain.setdefault(new, plain[old])
    plain = {key: item for key, item in plain.items() if key in _RESPONSE_FIELDS}
    usage = plain.get("usage")
    if isinstance(usage, dict):
        usage = rename_old_keys(usage)  # pyright: ignore[reportUnknownArgumentType]
        plain["usage"] = {key: item for key, item in usage.items() if key in _USAGE_FIELDS}
    return plain
