"""`capture_run_messages`: see the messages of a run that failed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runmgr.messages import ModelMessage

__all__ = ("capture_run_messages", "claim_captured_messages")


class _Captured:
    __slots__ = ("messages", "used")

    def __init__(self) -> None:
        self.messages: list[ModelMessage] = []
        self.used = False


_captured: ContextVar[_Captured | None] = ContextVar("runmgr_captured_messages", default=None)


@contextmanager
def capture_run_messages() -> Generator[list[ModelMessage]]:
    """A list that the first run within the block keeps its history in: there to look at when the run raises.

    Only the first run's messages are captured, however many follow. A block within another gives the outer one's list.
    """
    outer = _captured.get()
    if outer is not None:
        yield outer.messages
        return
    captured = _Captured()
    token = _captured.set(captured)
    try:
        yield captured.messages
    finally:
        _captured.reset(token)


def claim_captured_messages() -> list[ModelMessage] | None:
    """The list for the run that starts now, if one is waiting for it."""
    captured = _captured.get()
    if captured is None or captured.used:
        return None
    captured.used = True
    return captured.messages
