"""`Supervisor.map`: many items in, outcomes out, in constant memory.

A feeder task pulls an item only when there is room for its run; at most ``window`` runs of a map are unfinished or have an
outcome that nobody has taken yet, so neither a long input nor a slow consumer fills the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from runmgr.records.outcomes import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from .actor import Actor
    from .parking import Wait
    from .runtime import Runtime

__all__ = ("Outcomes",)

FED_AT_ONCE = 64
"""Items that are submitted before others have their turn: the first runs are under way while the rest are still submitted."""
BUSY = 0.025
"""Seconds that the others' turn takes where they have much to do: to begin what was just submitted takes a tenth of it."""


class _Place:
    """Where in an ordered map an outcome belongs."""

    __slots__ = ("_map", "_position")

    def __init__(self, outcomes: Outcomes, position: int) -> None:
        self._map = outcomes
        self._position = position

    @property
    def outcomes(self) -> Outcomes:
        return self._map

    @property
    def waits(self) -> list[Wait]:
        return self._map.waits

    def told(self, outcome: RunOutcome) -> None:
        self._map.place(self._position, outcome)


class Outcomes:
    """What `Supervisor.map` gives: iterate it for the outcomes of its runs.

    One task at a time may wait on it. An exception of the items' iterable is raised here, after the outcomes of the items
    before it.
    """

    __slots__ = (
        "_done",
        "_error",
        "_fed",
        "_feeder",
        "_held",
        "_hurries",
        "_items",
        "_make",
        "_next",
        "_open",
        "_ordered",
        "_ready",
        "_room",
        "_running",
        "_runtime",
        "_task",
        "_window",
        "waits",
    )

    def __init__(
        self,
        runtime: Runtime,
        items: Iterable[Any] | AsyncIterable[Any],
        make: Callable[[Any, int], Actor],
        *,
        ordered: bool,
        window: int,
    ) -> None:
        self._runtime = runtime
        self._items = items
        self._make = make
        self._ordered = ordered
        self._window = window
        self._open = 0
        """Runs that are submitted and whose outcome was not taken."""
        self._running = 0
        """Runs that are submitted and whose outcome was not told."""
        self._ready: deque[RunOutcome] = deque()
        self._held: dict[int, RunOutcome] = {}
        """Ordered only: outcomes that came before their turn."""
        self._next = 0
        self._fed = False
        self._error: Exception | None = None
        self._task: trio.lowlevel.Task | None = None
        self.waits: list[Wait] = []
        self._room: trio.Event | None = None
        self._hurries = False
        self._feeder = trio.CancelScope()
        self._done = trio.Event()
        runtime.maps.add(self)

    # ---------------------------------------------------------------- the feeder

    async def feed(self) -> None:
        """Pull items and submit them; a task of the supervisor."""
        try:
            with self._feeder:
                if isinstance(self._items, AsyncIterable):
                    index = 0
                    async for item in self._items:
                        actor = self._submit(item, index)
                        if actor is not None:
                            await self._stand(actor, index)
                        index += 1
                        await self._wait_for_room(index)
                else:
                    window = self._window
                    for index, item in enumerate(self._items):
                        actor = self._submit(item, index)
                        if actor is not None:
                            await self._stand(actor, index)
                        # Not awaited where there is nothing to wait for: a coroutine is much of what a submission costs.
                        if index % FED_AT_ONCE == FED_AT_ONCE - 1 or self._open >= window:
                            await self._wait_for_room(index)
        except Exception as error:  # noqa: BLE001  the iterable's own error belongs to whoever iterates the outcomes
            self._error = error
        finally:
            self._fed = True
            self._wake()
            self._done.set()

    def _submit(self, item: Any, index: int) -> Actor | None:
        """Submit the item's run, or give it back where there is neither a place nor a seat for it."""
        actor = self._make(item, index)
        if actor._outcome is not None:  # its outcome is known already
            listener = _Place(self, index) if self._ordered else self
            self._open += 1
            self._running += 1
            listener.told(msgspec.structs.replace(actor._outcome, index=index))
        elif actor.run_id in self._runtime.live or self._runtime.offer(actor):
            self._listen(actor, index)
        else:
            return actor
        return None

    async def _stand(self, actor: Actor, index: int) -> None:
        await self._runtime.admit(actor)
        self._listen(actor, index)

    def _listen(self, actor: Actor, index: int) -> None:
        listener = _Place(self, index) if self._ordered else self
        # Nothing ran since it was admitted but other tasks' bookkeeping: a run that has ended by now was told to nobody.
        self._open += 1
        self._running += 1
        if actor._outcome is None:
            actor.listen(listener)
        else:
            listener.told(actor._outcome)

    async def _wait_for_room(self, index: int) -> None:
        if index % FED_AT_ONCE == FED_AT_ONCE - 1 and not self._hurries:
            await self._give_way()
        while self._open >= self._window:
            self._hurries = False
            self._room = trio.Event()
            await self._room.wait()

    async def _give_way(self) -> None:
        """Let others have their turn. Where those have come to be busy, not again before there is no room: runs that go on already would
        be served first each time, and who begins last ends last.
        """
        began = trio.current_time()
        await trio.lowlevel.checkpoint()
        self._hurries = trio.current_time() - began > BUSY

    # ---------------------------------------------------------------- outcomes

    @property
    def outcomes(self) -> Outcomes:
        """Itself: whose listener this is."""
        return self

    def told(self, outcome: RunOutcome) -> None:
        """A run of this map has ended."""
        self._running -= 1
        self._ready.append(outcome)
        self._wake()

    def place(self, position: int, outcome: RunOutcome) -> None:
        """A run of this ordered map has ended."""
        self._running -= 1
        held = self._held
        held[position] = outcome
        while self._next in held:
            self._ready.append(held.pop(self._next))
            self._next += 1
        self._wake()

    async def _sleep(self) -> None:
        self._task = trio.lowlevel.current_task()

        def stop(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(stop)

    def broken(self) -> None:
        """The supervisor has failed: nobody tells this map anything any more."""
        self._wake()

    def _wake(self) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None
            for part in self.waits:
                part.over()

    def __aiter__(self) -> Outcomes:
        return self

    async def __anext__(self) -> RunOutcome:
        """The next outcome; waits for one. Cancelling loses none.

        Raises:
            trio.BusyResourceError: another task already waits here.
            SupervisorClosed: the supervisor stopped admitting before all items were submitted.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._ready:
            if self._fed and not self._open:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            if self._task is not None:
                raise trio.BusyResourceError("another task already waits for this map's outcomes")
            await self._runtime.parking.wait(
                self._runtime.parking.caller(),
                self._sleep,
                "it waits for runs of its map",
                waits=self.waits,
            )
        self._open -= 1
        if self._room is not None and self._open < self._window:
            self._room.set()
            self._room = None
        return self._ready.popleft()

    async def aclose(self, reason: str = "its map was left") -> None:
        """Stop pulling items, cancel the runs that have not ended, and wait for their end.

        O(live runs) where any has not ended; nothing to do where the iteration was gone through to its end.
        """
        self._feeder.cancel()
        with trio.CancelScope(shield=True):
            await self._done.wait()
            if self._running:
                for actor in list(self._runtime.live.values()):
                    if actor.listened_by(self):
                        self._runtime.cancel_run(actor, reason, stays_open=True)
            self._held.clear()
            while self._running and self._runtime.broken is None:  # broken: nobody is left to tell their end
                await self._sleep()
        self._runtime.maps.discard(self)
