"""A gate that runs pass while it is open and wait at while it is closed."""

from __future__ import annotations

import trio

__all__ = ("PauseGate",)


class PauseGate:
    """Open at first. ``if not gate.is_open: await gate.wait()`` costs one attribute while it is open.

    Opening lets everyone through that waits now, even if it is closed again at once.
    """

    __slots__ = ("_lot", "is_open")

    def __init__(self, *, is_open: bool = True) -> None:
        self.is_open = is_open
        """Whether `wait` returns at once."""
        self._lot: trio.lowlevel.ParkingLot | None = None  # made when somebody first waits

    def open(self) -> None:
        """Let everyone through. No effect on an open gate."""
        self.is_open = True
        if self._lot is not None:
            self._lot.unpark_all()

    def close(self) -> None:
        """Let nobody through who comes from now on. No effect on a closed gate."""
        self.is_open = False

    async def wait(self) -> None:
        """Wait until the gate is open.

        A checkpoint for cancellation always; for the scheduler only if the gate is closed. Cancelling leaves nothing
        behind.
        """
        if self.is_open:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()

    @property
    def waiting(self) -> int:
        """How many tasks wait at the gate."""
        return 0 if self._lot is None else len(self._lot)
