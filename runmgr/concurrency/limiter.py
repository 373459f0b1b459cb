"""A number of permits that may be changed while they are out."""

from __future__ import annotations

from types import TracebackType

import attrs
import trio

__all__ = ("LimiterStatistics", "ResizableLimiter")


@attrs.frozen
class LimiterStatistics:
    """What a `ResizableLimiter` is doing."""

    limit: int
    """How many permits there are."""
    used: int
    """How many are out; more than ``limit`` for a while after it was lowered."""
    waiting: int
    """How many tasks wait for one."""


class ResizableLimiter:
    """``limit`` permits, handed out in the order in which they are asked for.

    Lowering the limit interrupts nobody: permits that are out stay out, and as they come back nobody gets one until
    fewer than ``limit`` are out. Who holds a permit is not recorded: whoever has one may give it back.

    Args:
        limit: how many permits; 0 hands out none.

    Raises:
        ValueError: ``limit`` is negative.
    """

    __slots__ = ("_limit", "_lot", "_used")

    def __init__(self, limit: int) -> None:
        self._limit = _checked(limit)
        self._used = 0
        self._lot = trio.lowlevel.ParkingLot()

    @property
    def limit(self) -> int:
        """How many permits there are. Raising it wakes those who waited longest."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = _checked(limit)
        self._hand_out()

    @property
    def used(self) -> int:
        """How many permits are out."""
        return self._used

    def acquire_nowait(self) -> None:
        """Take a permit.

        Raises:
            trio.WouldBlock: there is none, or others wait for one already.
        """
        if (
            self._used >= self._limit
        ):  # always so while others wait: a permit that comes back is handed on at once
            raise trio.WouldBlock
        self._used += 1

    async def acquire(self) -> None:
        """Wait for a permit and take it. A checkpoint; cancelled, it has taken none and lost its place."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._used < self._limit:
            self._used += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._lot.park()  # woken with the permit in hand: `_hand_out` has counted it

    def release(self) -> None:
        """Give a permit back; whoever waited longest gets it, unless the limit was lowered.

        Raises:
            RuntimeError: no permit is out.
        """
        if not self._used:
            raise RuntimeError("release() without acquire(): no permit is out")
        self._used -= 1
        if self._lot:
            self._hand_out()

    def _hand_out(self) -> None:
        free = self._limit - self._used
        if free > 0:
            self._used += len(self._lot.unpark(count=free))

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def statistics(self) -> LimiterStatistics:
        """Counts, without looking at anybody."""
        return LimiterStatistics(self._limit, self._used, len(self._lot))

    def __repr__(self) -> str:
        return f"<ResizableLimiter limit={self._limit} used={self._used} waiting={len(self._lot)}>"


def _checked(limit: int) -> int:
    if limit < 0:
        raise ValueError(f"limit must not be negative, got {limit}")
    return limit
