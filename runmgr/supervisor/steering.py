"""How a supervisor steers its runs: cancels one, pauses all, and comes down its ladder. Methods of `Runtime`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from runmgr.records.outcomes import RunError, RunState

from . import elsewhere
from .commands import come_back
from .states import TERMINAL

if TYPE_CHECKING:
    from .actor import Actor
    from .runtime import Runtime

__all__ = ("cancel_run", "close", "pause", "resume", "shutdown_error", "stop")


def cancel_run(self: Runtime, actor: Actor, reason: str | None, *, stays_open: bool = False) -> bool:
    """See `RunHandle.cancel`; with ``stays_open`` the journal does not take it for an end: it can be resumed."""
    if actor.state in TERMINAL:
        return False
    if actor._cancel_reason is None:
        actor._cancel_reason = reason or "cancelled"
        actor._abandoned = stays_open
    if actor._scope is not None:
        actor._scope.cancel(actor._cancel_reason)
    elif not actor._holds:  # no task yet, and none to come
        error = RunError("Cancelled", actor._cancel_reason)
        self.finish(actor, RunState.CANCELLED, None, error, stays_open=actor._abandoned)
    elif self.carrier is not None:
        error = RunError("Cancelled", actor._cancel_reason)
        elsewhere.call_off(self, actor, RunState.CANCELLED, error, stays_open=actor._abandoned)
    return True


def pause(self: Runtime) -> None:
    """Stop admitting to places, and every run at its next node boundary. O(live runs)."""
    self.pausing = True
    self.admission.closed = True
    for actor in self.live.values():
        actor._interrupts = True


def resume(self: Runtime) -> None:
    """Undo `pause`; runs that were paused one by one stay paused. O(live runs)."""
    self.pausing = False
    self.admission.closed = self.stop_reason is not None and not self.leaving
    for actor in list(self.live.values()):
        extras = actor._extras
        if extras is not None and not extras.pausing:
            come_back(self, actor, extras)
    self.admission.fill()


def close(self: Runtime, reason: str) -> None:
    """Admit no more runs."""
    if self.closed is None:
        self.closed = reason
        self.admission.dismiss(self.closed_error, children=False)


def stop(self: Runtime, reason: str, grace: float = 0.0) -> None:
    """Cancel every run; what the journal holds of them stays open, to be resumed. O(live runs).

    Args:
        self: the supervisor.
        reason: why.
        grace: seconds that runs have to come to a node boundary and end there, before they are cancelled where they are. Those that
            are worked on elsewhere have them to come to their end: nothing would be kept of what they leave half done.
    """
    self.close(reason)
    if self.stop_reason is None:
        self.stop_reason = reason
        self.admission.finishing = True
        self.admission.dismiss(self.closed_error, children=True)
        for actor in list(self.live.values()):
            if actor._scope is None and not actor._holds and actor.state not in TERMINAL:
                self.finish(actor, RunState.CANCELLED, None, self.shutdown_error(actor), stays_open=True)
    elif not self.leaving:
        return
    if grace > 0:
        if not self.leaving:
            self.leaving = True
            _ask_to_leave(self)
            if self.carrier is not None:
                elsewhere.call_off_all(self, begun=False)
            self.admission.closed = False
            self.admission.fill()
        assert self.services is not None
        self.services.start_soon(_force_after, self, grace, reason, name="runmgr grace")
        return
    self.leaving = False
    self.admission.closed = True
    if self.actors is not None:
        self.actors.cancel_scope.cancel(reason)
    if self.carrier is not None:
        elsewhere.call_off_all(self)


def _ask_to_leave(self: Runtime) -> None:
    for actor in list(self.live.values()):
        actor._interrupts = True
        extras = actor._extras
        if extras is not None and (extras.stopped is not None or extras.gate is not None):
            actor._leave()  # it is between two nodes


async def _force_after(self: Runtime, grace: float, reason: str) -> None:
    await trio.sleep(grace)
    self.stop(reason)


def shutdown_error(self: Runtime, actor: Actor) -> RunError:
    """What the outcome of a run says that was cancelled with all others."""
    return RunError("Cancelled", actor._cancel_reason or self.stop_reason or "shutdown")
