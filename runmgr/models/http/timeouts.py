"""How long a request may take."""

from __future__ import annotations

from typing import Any

import attrs

from runmgr.exceptions import UserError

__all__ = ("DEFAULT_TOTAL", "Timeouts", "timeouts_of")

DEFAULT_TOTAL = 600.0
"""Seconds for a whole call where nothing else is said: what the providers' own SDKs allow."""


@attrs.frozen
class Timeouts:
    """Limits of one request, in seconds; None is no limit of that kind.

    Args:
        connect: name resolution, TCP and TLS of a new connection.
        first_byte: from the request being sent to the first byte of its answer.
        between: silence between two arrivals of bytes of one answer. Kept to within an eighth: a timer is only moved when that
            much of it has passed, since moving it on each arrival would cost more than reading.
        total: the whole call; for a stream until its last byte. Time that the reader of a stream spends between reads counts, but
            cannot be interrupted: the next read fails. Waiting until the pool has room does not count: that is our own queue, and
            says nothing of the provider. Put a ``trio.fail_after`` around a call to bound that too.
    """

    connect: float = 10.0
    first_byte: float | None = None
    between: float | None = None
    total: float | None = DEFAULT_TOTAL


def timeouts_of(value: Any, default: Timeouts) -> Timeouts:
    """The limits that a ``timeout`` setting stands for.

    A number of seconds bounds the whole call. An ``httpx2.Timeout`` gives ``connect``, and its ``read`` becomes both
    ``first_byte`` and ``between``, with ``total`` as in ``default``.

    Raises:
        UserError: neither, or not positive.
    """
    if value is None:
        return default
    if isinstance(value, Timeouts):
        return value
    if isinstance(value, int | float):
        if not value > 0:
            raise UserError(f"timeout={value!r} is not a positive number of seconds")
        return attrs.evolve(default, total=float(value))
    if hasattr(value, "connect") and hasattr(value, "read"):
        return Timeouts(
            connect=default.connect if value.connect is None else value.connect,
            first_byte=value.read,
            between=value.read,
            total=default.total,
        )
    raise UserError(f"timeout={value!r} is neither a number of seconds, nor Timeouts, nor an httpx2.Timeout")
