"""What messages, parts, contents and events share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runmgr.structs import Value

if TYPE_CHECKING:
    from runmgr.messages.otel import ContentSettings

__all__ = ("Derived", "MessageValue", "Observed")


class MessageValue(Value):
    """A value with Pydantic AI's wire format; everything that reads or writes it is in ``codec``."""

    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        from runmgr.messages.codec import from_plain

        return from_plain(value, cls)

    def _to_plain(self, *, json: bool) -> Any:
        from runmgr.messages.codec import to_plain

        return to_plain(self, json=json)


class Observed(MessageValue):
    """A message value with a shape in OpenTelemetry's GenAI conventions."""

    def otel_message_parts(self, settings: ContentSettings) -> list[dict[str, Any]]:
        """Its parts in that shape, for span attributes, with as much of the content as ``settings`` let out."""
        from runmgr.messages.otel import otel_message_parts

        return otel_message_parts(self, settings)


class Derived:
    """An attribute that is derived when it was not given: lies over a struct's own member of the same name.

    msgspec reads, copies and compares the member, which holds None then; people and codecs read the attribute.

    Args:
        owner: the struct class; the attribute must be a field whose default is None.
        name: the field.
        derive: makes the value from the instance. It is not kept: the instance may be edited.
    """

    def __init__(self, owner: type, name: str, derive: Callable[[Any], Any]) -> None:
        self._member: Any = getattr(owner, name)
        self._derive = derive
        setattr(owner, name, self)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = self._member.__get__(instance, owner)
        return self._derive(instance) if value is None else value

    def __set__(self, instance: Any, value: Any) -> None:
        self._member.__set__(instance, value)

    def given(self, instance: Any) -> Any:
        """The value that was given, or None."""
        return self._member.__get__(instance, type(instance))


if TYPE_CHECKING:

    class DerivedText:
        """How a type checker sees a derived attribute: text to read, and text or None to give."""

        def __get__(self, instance: object, owner: type | None = None) -> str: ...
        def __set__(self, instance: object, value: str | None) -> None: ...
