"""What the pure readers of providers' answers share."""

from __future__ import annotations

from typing import Any, cast

from runmgr.exceptions import MalformedResponseError

__all__ = ("count_of", "malformed", "object_of", "shown")


def shown(body: bytes) -> str:
    """The beginning of an answer, for errors."""
    return repr(body[:500].decode("utf-8", "replace")) + ("..." if len(body) > 500 else "")


def malformed(who: str, what: str, body: bytes, model_name: str) -> MalformedResponseError:
    """The exception of an answer that is none.

    Args:
        who: the provider.
        what: what it did, as in "answered without content".
        body: the answer.
        model_name: the model that was asked.
    """
    return MalformedResponseError(model_name, f"{who} {what}: {shown(body)}")


def count_of(counts: dict[str, Any], name: str) -> int:
    """A count of tokens; 0 where there is none, or something else."""
    value = counts.get(name)
    return value if type(value) is int else 0


def object_of(holder: dict[str, Any], name: str) -> dict[str, Any] | None:
    """An object within an object, or None."""
    value = holder.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
