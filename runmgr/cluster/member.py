"""A worker, as the driver sees it: what is to be said to it, and what is known of it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from . import wire
from .engine import WorkerLost

if TYPE_CHECKING:
    from .engine import WorkerLink

__all__ = ("Member",)


class Member:
    """One worker.

    Args:
        name: its name.
        link: how it is reached.
    """

    __slots__ = (
        "_number",
        "_outbox",
        "_wake",
        "asked_at",
        "clean",
        "clock_error",
        "heard_at",
        "kinds",
        "link",
        "models",
        "name",
        "process",
        "ready",
        "running",
        "scope",
        "sent_at",
    )

    def __init__(self, name: str, link: WorkerLink) -> None:
        self.name = name
        self.link = link
        self._number = 0
        self._outbox: deque[Any] = deque()
        self._wake = trio.Event()
        self.heard_at = self.sent_at = trio.current_time()
        self.kinds = 0
        """How many of the packer's kinds it was told."""
        self.ready = False
        self.clean = False
        """Whether it has ended as it was asked to, and told all."""
        self.asked_at = 0.0
        """When it was asked for its clock, once it had said that it is there."""
        self.clock_error = float("inf")
        """Seconds that its clock may be wrong by."""
        self.process: tuple[str, int] | None = None
        self.scope = trio.CancelScope()
        self.running = 0
        self.models: list[wire.ModelStand] = []

    def say(self, message: Any) -> None:
        """Have a message sent, with all others that wait. Never blocks."""
        self._outbox.append(message)
        self._wake.set()

    def cancel(self, run_id: str, reason: str) -> None:
        """Have a run cancelled, in one message with others for the same reason."""
        last = self._outbox[-1] if self._outbox else None
        if type(last) is wire.Cancel and last.reason == reason:
            last.run_ids.append(run_id)
        else:
            self.say(wire.Cancel([run_id], reason))

    async def send(self) -> None:
        """Send what there is to say, until the worker is lost."""
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                messages = list(self._outbox)
                self._outbox.clear()
                if messages:
                    number, self._number = self._number, self._number + 1
                    await self.link.send(wire.encode(number, messages))
                    self.sent_at = trio.current_time()
        except WorkerLost:
            self.scope.cancel()

    async def ping(self, silence: float) -> None:
        """Let it know that somebody is there, and notice when it is not.

        Where this process itself was held up, what the worker said meanwhile may not be read yet: it is not judged then.
        """
        late = False
        while True:
            now = trio.current_time()
            if now - self.heard_at > silence and not late:
                self.scope.cancel()
            self.say(wire.Ping(now))
            due = now + silence / 5
            await trio.sleep_until(due)
            late = trio.current_time() - due > silence / 5
