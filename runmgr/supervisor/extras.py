"""What few runs need, made when it is first needed: most runs have no parent, no children, no mail and are never paused."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trio

    from runmgr.records.outcomes import RunError

    from .actor import Actor
    from .commands import Answer
    from .interrupted import Question
    from .ledger import Tally
    from .parking import Wait

__all__ = ("Extras",)


class Extras:
    """The rare half of an `Actor`."""

    __slots__ = (
        "alone",
        "awaited",
        "away",
        "below",
        "children",
        "count",
        "depth",
        "errors",
        "from_journal",
        "gate",
        "mailbox",
        "names",
        "parent",
        "parked",
        "pause_asked",
        "pausing",
        "question",
        "resumed",
        "snapshots",
        "stopped",
        "stuck",
    )

    def __init__(self) -> None:
        # Its family: see `runmgr.supervisor.family`.
        self.parent: Actor | None = None
        self.depth = 0
        self.children: set[Actor] | None = None
        """Runs that it submitted and that have not ended."""
        self.count = 0
        """Of a run without a parent: how many runs were submitted below it, at all depths."""
        self.below: Tally | None = None
        """What its children used that have ended, with theirs."""
        self.alone: trio.Event | None = None
        """Set when its last child ends."""
        self.names: dict[str, int] | None = None
        """How many children it named after the same content."""

        self.awaited: list[Wait] | None = None
        """Parts of other runs that wait for its end."""

        # Its place: see `runmgr.supervisor.parking`.
        self.away = 0
        """Parts of it that wait without a place."""
        self.parked = False
        """It has a task and no place."""
        self.stuck = False
        """It waits for other runs and keeps its place, because too many are parked."""
        self.gate: trio.Event | None = None
        """Set when it has a place again, or need not wait for one."""

        # What others want of it: see `runmgr.supervisor.commands`.
        self.pausing = False
        self.stopped: trio.Event | None = None
        """It is paused; set when it may go on."""
        self.pause_asked: list[Answer[None]] | None = None
        self.resumed: list[Answer[None]] | None = None
        self.mailbox: deque[tuple[Any, Answer[None]]] | None = None
        self.snapshots: list[Answer[Any]] | None = None

        self.from_journal = False
        """It goes on from where an earlier process left it, and has not looked yet what was running then."""
        self.question: Question | None = None
        """What it waits to be told: see `runmgr.supervisor.interrupted`."""

        self.errors: list[RunError] | None = None
        """How its earlier attempts failed."""
