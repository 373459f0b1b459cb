"""What can be asked of a run, and how the one who asks learns that it took effect.

A command is put down at once and takes effect at the run's next node boundary (`cancel`: at its next checkpoint). It gives an
`Answer`, which may be waited for or not. A run looks for commands only where its one flag says that there are any.

`COMMANDS` is the protocol, and what ``docs/design/events.md`` shows.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import trio

from runmgr.exceptions import RunEnded, UserError
from runmgr.records.outcomes import RunState

from .elsewhere import CarriedJob
from .states import TERMINAL

if TYPE_CHECKING:
    from .actor import Actor
    from .extras import Extras
    from .runtime import Runtime

__all__ = ("COMMANDS", "MAILBOX_SIZE", "Answer")

T = TypeVar("T")

MAILBOX_SIZE = 64
"""Messages that may wait for one run."""

COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "pause": ("at the next node boundary; at once where it is queued", "it is paused", "RunEnded"),
    "resume": ("at once: it queues for a place", "it has a place again", "RunEnded"),
    "send": (
        "before the next model request",
        "the message is in that request",
        "RunEnded; trio.WouldBlock: 64 messages wait",
    ),
    "snapshot": ("at the next node boundary", "the `RunSnapshot`", "RunEnded; UserError: it runs no agent"),
    "cancel": ("at the next checkpoint", "the outcome, `cancelled`", "never: gives False where it has ended"),
}
"""Command -> when it takes effect, what its answer says, when it is refused."""


class Answer(Generic[T]):
    """The answer to a command, when there is one: ``await answer.wait()``. Nobody has to wait for it."""

    __slots__ = ("_done", "_error", "_event", "_value")

    def __init__(self) -> None:
        self._done = False
        self._error: Exception | None = None
        self._event: trio.Event | None = None
        self._value: T | None = None

    @property
    def done(self) -> bool:
        """Whether the command took effect, or cannot any more."""
        return self._done

    async def wait(self) -> T:
        """Wait until the command took effect. Cancelling the wait does not take the command back.

        Raises:
            RunEnded: the run ended before it did.
        """
        if self._done:
            await trio.lowlevel.checkpoint()
        else:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()
        if self._error is not None:
            raise self._error
        return cast("T", self._value)

    def give(self, value: T) -> None:
        """It took effect."""
        self._settle(value, None)

    def refuse(self, error: Exception) -> None:
        """It never will."""
        self._settle(None, error)

    def _settle(self, value: T | None, error: Exception | None) -> None:
        if self._done:
            return
        self._done, self._value, self._error = True, value, error
        if self._event is not None:
            self._event.set()


def ended(actor: Actor, verb: str) -> RunEnded:
    """What those are told who come too late."""
    return RunEnded(f"run {actor.run_id} cannot {verb}: it has ended ({actor.state.value})")


def check_live(actor: Actor, verb: str) -> None:
    """Raise `RunEnded` where the run has ended."""
    if actor.state in TERMINAL:
        raise ended(actor, verb)


def check_here(actor: Actor, verb: str) -> None:
    """Raise `UserError` where the run is worked on elsewhere, and nothing between its nodes can be reached."""
    if isinstance(actor._job, CarriedJob):
        raise UserError(
            f"run {actor.run_id} cannot {verb}: it is worked on by a worker of the cluster, where `cancel` reaches it and other "
            "commands do not. Run it under a supervisor without cluster= to steer it between its nodes"
        )


# -------------------------------------------------------------------- asking


def pause(runtime: Runtime, actor: Actor) -> Answer[None]:
    """See `RunHandle.pause`."""
    check_live(actor, "pause")
    if actor._holds:
        check_here(actor, "pause")
    extras = actor.extras()
    extras.pausing = True
    actor._interrupts = True
    answer: Answer[None] = Answer()
    if actor.state is RunState.QUEUED and actor._seated:
        runtime.move(actor, "pause", "paused before it began")
        runtime.admission.leave(actor)
    if extras.stopped is not None or (actor.state is RunState.PAUSED and actor._scope is None):
        answer.give(None)
    elif extras.pause_asked is None:
        extras.pause_asked = [answer]
    else:
        extras.pause_asked.append(answer)
    return answer


def resume(runtime: Runtime, actor: Actor) -> Answer[None]:
    """See `RunHandle.resume`."""
    check_live(actor, "resume")
    answer: Answer[None] = Answer()
    extras = actor._extras
    if extras is not None:
        extras.pausing = False
        extras.question = None
        if not runtime.pausing:
            come_back(runtime, actor, extras)
        answer_all(extras.pause_asked)  # a pause that was taken back before it took effect
        extras.pause_asked = None
    if actor.state in {RunState.RUNNING, RunState.WAITING} or extras is None:
        answer.give(None)
    elif extras.resumed is None:
        extras.resumed = [answer]
    else:
        extras.resumed.append(answer)
    return answer


def come_back(runtime: Runtime, actor: Actor, extras: Extras) -> None:
    """Let a run go on that was paused, if it is."""
    if extras.stopped is not None:
        stopped, extras.stopped = extras.stopped, None
        runtime.parking.back(actor)
        stopped.set()
    elif actor.state is RunState.PAUSED and actor._scope is None:  # it never began
        runtime.move(actor, "resume", "resumed")
        runtime.admission.come_back(actor)


def send(actor: Actor, content: Any) -> Answer[None]:
    """See `RunHandle.send`."""
    check_live(actor, "receive a message")
    check_here(actor, "receive a message")
    extras = actor.extras()
    mailbox = extras.mailbox
    if mailbox is None:
        mailbox = extras.mailbox = deque()
    if len(mailbox) >= MAILBOX_SIZE:
        raise trio.WouldBlock
    answer: Answer[None] = Answer()
    mailbox.append((content, answer))
    actor._interrupts = True
    return answer


def ask_snapshot(actor: Actor) -> Answer[Any]:
    """See `RunHandle.snapshot`."""
    check_live(actor, "give a snapshot")
    check_here(actor, "give a snapshot")
    if not actor._job.is_agent:
        raise UserError(f"run {actor.run_id} runs a graph: only agents' runs have snapshots")
    extras = actor.extras()
    answer: Answer[Any] = Answer()
    if extras.snapshots is None:
        extras.snapshots = []
    extras.snapshots.append(answer)
    actor._interrupts = True
    return answer


# -------------------------------------------------------------------- answering


def deliver(extras: Extras, node: Any) -> bool:
    """Put the messages that wait into the request that is about to be sent; False where the node sends none."""
    mailbox = extras.mailbox
    if not mailbox:
        return True
    request = getattr(node, "request", None)
    if request is None:
        return False
    from runmgr.messages import UserPromptPart

    request.parts = [*request.parts, *(UserPromptPart(content=content) for content, _ in mailbox)]
    for _, answer in mailbox:
        answer.give(None)
    mailbox.clear()
    return True


def give_snapshots(actor: Actor, extras: Extras) -> None:
    """Answer those who asked for a snapshot."""
    asked, extras.snapshots = extras.snapshots, None
    for answer in asked or ():
        try:
            answer.give(actor._stepper.snapshot())
        except Exception as error:  # noqa: BLE001  whoever asked is to hear of it, not the run
            answer.refuse(error)


def answer_all(asked: list[Answer[None]] | None) -> None:
    """What was asked took effect."""
    for answer in asked or ():
        answer.give(None)


def refuse_all(actor: Actor, extras: Extras) -> None:
    """The run has ended: whoever waits for an answer is told so."""
    for _, answer in extras.mailbox or ():
        answer.refuse(ended(actor, "receive a message"))
    for answer in extras.pause_asked or ():
        answer.refuse(ended(actor, "pause"))
    for answer in extras.snapshots or ():
        answer.refuse(ended(actor, "give a snapshot"))
    for answer in extras.resumed or ():
        answer.refuse(ended(actor, "resume"))
    extras.mailbox = extras.pause_asked = extras.snapshots = extras.resumed = None
