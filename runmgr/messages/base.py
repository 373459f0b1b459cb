"""What messages, parts, contents and events share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runmgr.structs import Value

__all__ = ("Derived", "MessageValue")


class MessageValue(Value):
    """A value with Pydantic AI's wire format; everything that reads or writes it is in ``codec``."""

    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        from runmgr.messages.codec import from_plain

        return from_plain(value, cls)

    def _to_plain(self, *, json: bool) -> Any:
        from runmgr.messages.codec import to_plain

        return to_plain(self, json=json)


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
