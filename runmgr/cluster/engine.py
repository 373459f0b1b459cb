"""What a cluster runs on, as an interface: start a worker, carry bytes to and from it, kill it.

An engine knows nothing of runs. It need not be reliable: workers may vanish without a word, and envelopes may come late or
twice; `runmgr.cluster.driver` lives with all of that. `runmgr.cluster.local` has one in this process, `runmgr.cluster.ray`
the real one.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from runmgr.exceptions import RunmgrError

__all__ = ("Engine", "WorkerLink", "WorkerLost")


class WorkerLost(RunmgrError):
    """A worker cannot be reached any more."""


class WorkerLink(Protocol):
    """The driver's end of one worker."""

    async def send(self, data: bytes) -> None:
        """Hand an envelope over; waits while the worker takes none. Cancelled, it may or may not have been handed over.

        Raises:
            WorkerLost: it never will be.
        """
        ...

    async def receive(self) -> bytes:
        """The next envelope from the worker; waits for it. Cancelled, nothing is lost.

        Raises:
            WorkerLost: there will be none.
        """
        ...

    async def kill(self) -> None:
        """End the worker whatever it does. Never fails; after it, `send` and `receive` raise."""
        ...


class Engine(Protocol):
    """Starts workers."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """Connect to whatever it runs on. Leaving the block ends every worker that is left.

        Raises:
            UserError: it cannot be had; the message says what to do.
        """
        ...

    async def start(self, name: str) -> WorkerLink:
        """Start a worker.

        Raises:
            WorkerLost: it did not start.
        """
        ...
