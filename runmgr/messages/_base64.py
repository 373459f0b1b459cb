"""Bytes in JSON as Pydantic AI writes them: base64 with the URL-safe alphabet, padded. Reading takes either alphabet."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any, ClassVar

__all__ = ("Base64", "decode_base64", "encode_base64")


if TYPE_CHECKING:
    Base64 = bytes
else:

    class _IsBytes(type):
        def __instancecheck__(cls, value: object) -> bool:
            return type(value) is bytes

    class Base64(metaclass=_IsBytes):
        """Annotates a field that holds ``bytes``, so that the decoder asks :func:`decode_base64`, not its own."""

        __runmgr_json_schema__: ClassVar = {"type": "string", "format": "base64url"}


def encode_base64(data: bytes) -> str:
    """The wire form of ``data``."""
    return urlsafe_b64encode(data).decode("ascii")


def decode_base64(value: Any) -> bytes:
    """The bytes of a wire form. Raises ``ValueError`` where it is none."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError(f"Expected base64 text, got {type(value).__name__}")  # noqa: TRY004 (a decoder's error)
    text = value.replace("+", "-").replace("/", "_")
    if missing := -len(text) % 4:
        text += "=" * missing
    try:
        return urlsafe_b64decode(text.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"Data should be valid base64: {error}") from None
