"""A run's messages as entries to read, for the terminal and the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from runmgr.report.text import duration

__all__ = ("Entry", "entries")


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was said, called or returned."""

    kind: str
    """``instructions``, ``system``, ``user``, ``text``, ``thinking``, ``call``, ``return``, ``retry`` or ``other``."""
    text: str
    name: str = ""
    """A tool's name."""
    note: str = ""
    """Of a response's last part: its model, tokens, and how long it took; of what a tool gave back: how long after it was called."""


_KINDS = {
    "system-prompt": "system",
    "user-prompt": "user",
    "text": "text",
    "thinking": "thinking",
    "tool-call": "call",
    "builtin-tool-call": "call",
    "tool-return": "return",
    "builtin-tool-return": "return",
    "retry-prompt": "retry",
}


def entries(messages: Iterable[Any]) -> list[Entry]:
    """What a history says, in order; instructions only where they change."""
    found: list[Entry] = []
    instructions: str | None = None
    before: datetime | None = None
    for message in messages:
        said = getattr(message, "instructions", None)
        if said and said != instructions:
            instructions = said
            found.append(Entry("instructions", said))
        parts: Sequence[Any] = message.parts
        answers = message.kind == "response"
        for number, part in enumerate(parts):
            kind = _KINDS.get(part.part_kind, "other")
            note = ""
            if answers:
                note = _note(message, before) if number == len(parts) - 1 else ""
            elif kind in {"return", "retry"}:
                note = _after(before, part.timestamp)
            found.append(Entry(kind, _text(kind, part), str(getattr(part, "tool_name", None) or ""), note))
        before = message.timestamp
    return found


def _after(before: datetime | None, now: datetime | None) -> str:
    """How long it took; nothing where that is not known."""
    if before is None or now is None or now < before:
        return ""
    return duration((now - before).total_seconds())


def _note(response: Any, asked: datetime | None) -> str:
    usage = response.usage
    words = [
        response.model_name or "",
        f"{usage.input_tokens} tokens in, {usage.output_tokens} out",
        _after(asked, response.timestamp),
    ]
    return ", ".join(word for word in words if word)


def _text(kind: str, part: Any) -> str:
    if kind == "call":
        return as_text(part.args if part.args is not None else {})
    if kind == "retry":
        return part.model_response()
    return as_text(getattr(part, "content", ""))


def as_text(content: Any) -> str:
    """Text as it is, several contents one below the other, anything else as indented JSON; media by its kind and size."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, (bytes, bytearray)):
        return f"[{len(content):,} bytes]"
    several = _several(content)
    if several is not None:
        return "\n".join(as_text(each) for each in several)
    if getattr(content, "kind", None) == "binary":
        return f"[{content.media_type}, {len(content.data):,} bytes]"
    if url := getattr(content, "url", None):
        return f"[{url}]"
    try:
        return json.dumps(content, indent=2, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(content)


def _several(content: Any) -> list[Any] | None:
    """The elements, where there are texts or media among them; None of a single value or of plain data."""
    if isinstance(content, (list, tuple)):
        elements: list[Any] = list(content)  # pyright: ignore[reportUnknownArgumentType]
        if any(not _is_plain(each) for each in elements):
            return elements
    return None


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, dict, list))
