"""Ids of tool calls whose provider gave none, and identifiers of files."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import sha1
from os import urandom

__all__ = ("file_identifier", "generate_tool_call_id", "use_tool_call_ids")


def _random_id() -> str:
    return f"pyd_ai_{urandom(16).hex()}"


_make: Callable[[], str] = _random_id


def generate_tool_call_id() -> str:
    """A new id, unique between processes; its prefix is the one that Pydantic AI's have."""
    return _make()


@contextmanager
def use_tool_call_ids(make: Callable[[], str]) -> Generator[None]:
    """Ids come from ``make`` within the block, for the whole process: for simulations and tests that must repeat."""
    global _make  # noqa: PLW0603 (as in clock)
    before = _make
    _make = make
    try:
        yield
    finally:
        _make = before


def file_identifier(data: str | bytes) -> str:
    """What a file is called towards a model: six hex digits of the SHA-1 of its content or URL.

    The same file gets the same name in every run and process; it protects against nothing.
    """
    if isinstance(data, str):
        data = data.encode()
    return sha1(data, usedforsecurity=False).hexdigest()[:6]
