"""The one wall clock of messages: their default timestamps come from :func:`now_utc`.

Timestamps are for people; nothing waits by them. A simulation that wants its own dates, or a test that wants fixed
ones, installs another source, explicitly and for a block::

    with use_clock(lambda: datetime(2025, 1, 1, tzinfo=timezone.utc)):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

__all__ = ("now_utc", "use_clock")

_read: Callable[[], datetime] = partial(datetime.now, UTC)


def now_utc() -> datetime:
    """The time of day as an aware UTC datetime."""
    return _read()


@contextmanager
def use_clock(read: Callable[[], datetime]) -> Generator[None]:
    """Timestamps come from ``read`` within the block, for the whole process: it is meant for simulations and tests.

    Args:
        read: returns an aware datetime; called at each default timestamp, so it should be cheap.
    """
    global _read  # noqa: PLW0603 (one variable is what makes the default cheap)
    before = _read
    _read = read
    try:
        yield
    finally:
        _read = before
