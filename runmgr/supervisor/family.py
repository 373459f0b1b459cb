"""Runs that runs submit. A child belongs to its parent: it is cancelled with it, and its parent has no outcome before it.

What a child uses counts once in the ledger, as its own; its parent's outcome has it too. How deep families go, and how many
runs one submitted run may have below it, is bounded, so that agents that submit agents come to an end.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import RunCancelled, RunEnded, UserError
from runmgr.records.outcomes import RunOutcome, RunState

from .ledger import Tally
from .states import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .actor import Actor
    from .extras import Extras
    from .jobs import GraphJob
    from .parking import Wait
    from .runtime import Runtime

__all__ = ("Family",)


class Family:
    """The rules for child runs of one supervisor.

    Args:
        max_depth: levels below a run that has no parent.
        max_children: runs below one without a parent, at all depths, over its whole life.
    """

    __slots__ = ("max_children", "max_depth")

    def __init__(self, max_depth: int, max_children: int) -> None:
        self.max_depth = max_depth
        self.max_children = max_children

    def adopt(self, parent: Actor, child: Actor) -> None:
        """Make a run that is not admitted yet the child of another.

        Raises:
            RunEnded: the parent has ended.
            UserError: the family would be too deep or too large.
        """
        if parent.state in TERMINAL:
            raise RunEnded(f"run {parent.run_id} cannot submit runs: it has ended ({parent.state.value})")
        depth = parent.extras().depth + 1
        if depth > self.max_depth:
            raise UserError(
                f"run {parent.run_id} cannot submit runs: it is {depth - 1} levels deep already, as many as may be. Do agents "
                f"submit one another without end? If not, raise open_supervisor(max_depth={self.max_depth})"
            )
        root = root_of(parent)
        if root.extras().count >= self.max_children:
            raise UserError(
                f"run {parent.run_id} cannot submit more runs: there have been {self.max_children:,} below run {root.run_id}. "
                f"If that is not too many, raise open_supervisor(max_children={self.max_children})"
            )
        extras = child.extras()
        extras.parent = parent
        extras.depth = depth


def root_of(actor: Actor) -> Actor:
    """The run without a parent at the top of a family."""
    while (extras := actor._extras) is not None and extras.parent is not None:
        actor = extras.parent
    return actor


def born(parent: Actor, child: Actor) -> None:
    """The child was admitted."""
    extras = parent.extras()
    if extras.children is None:
        extras.children = set()
    extras.children.add(child)
    root_of(parent).extras().count += 1
    if parent.state in TERMINAL:
        child._cancel_reason = f"its parent, run {parent.run_id}, has ended"


def died(parent: Actor, child: Actor) -> None:
    """The child has ended: its parent takes over what it used."""
    extras = parent.extras()
    assert extras.children is not None
    extras.children.discard(child)
    used = child.paid()
    if used is not None:
        if extras.below is None:
            extras.below = Tally()
        extras.below.merge(used)
    if not extras.children and extras.alone is not None:
        extras.alone.set()
        extras.alone = None


async def wait_alone(extras: Extras) -> None:
    """Wait until the run has no children left."""
    while extras.children:
        if extras.alone is None:
            extras.alone = trio.Event()
        await extras.alone.wait()


async def end_children(runtime: Runtime, actor: Actor, extras: Extras, *, stays_open: bool) -> None:
    """Cancel the run's children and wait for their end, whatever is cancelled meanwhile."""
    assert extras.children is not None
    reason = f"its parent, run {actor.run_id}, has ended"
    for child in list(extras.children):
        runtime.cancel_run(child, reason, stays_open=stays_open)
    with trio.CancelScope(shield=True):
        await wait_alone(extras)


def check_no_circle(waiter: Actor, awaited: Actor) -> None:
    """Raise where a run waits for itself, or for one that waits for it.

    Raises:
        UserError: it would wait for ever.
    """
    one: Actor | None = waiter
    while one is not None:
        if one is awaited:
            who = "itself" if one is waiter else f"run {awaited.run_id}, which waits for it: it is below it"
            raise UserError(f"run {waiter.run_id} would wait for ever: it waits for the end of {who}")
        one = None if one._extras is None else one._extras.parent


def child_id(parent: Actor, what: bytes) -> str:
    """A name for a child that is the same when its parent, resumed from its last checkpoint, submits it again."""
    digest = hashlib.blake2b(b"%d " % parent.step() + what, digest_size=6).hexdigest()
    extras = parent.extras()
    if extras.names is None:
        extras.names = {}
    number = extras.names[digest] = extras.names.get(digest, 0) + 1
    return f"{parent.run_id}/{digest}" + (f"-{number}" if number > 1 else "")


class _Fork:
    """Told of the branches' ends."""

    __slots__ = ("event", "left", "waits", "wrong")

    def __init__(self, branches: int) -> None:
        self.left = branches
        self.wrong: RunOutcome | None = None
        self.event = trio.Event()
        self.waits: list[Wait] = []

    def told(self, outcome: RunOutcome) -> None:
        """A branch has ended."""
        self.left -= 1
        if outcome.status is not RunState.SUCCEEDED and self.wrong is None:
            self.wrong = outcome
        if self.wrong is not None or not self.left:
            self.event.set()
            for part in self.waits:
                part.over()


async def fork(actor: Actor, job: GraphJob, branches: Sequence[Any]) -> list[Any]:
    """Run the branches of a graph's node as child runs; give what they ended with, in order.

    When one fails, or is cancelled, the others are cancelled, and what it raised is raised here.
    """
    runtime = actor._sup
    told = _Fork(len(branches))
    children: list[Actor] = []
    for node in branches:
        child = runtime.make(
            job.branch(node),
            group=actor.group,
            priority=actor.priority,
            parent=actor,
            listener=told,
        )
        await runtime.admit(child, actor)
        children.append(child)
        if told.wrong is not None:
            break
    if children and not told.event.is_set():
        await runtime.parking.wait(actor, told.event.wait, "its branches run", waits=told.waits)
    wrong = told.wrong
    if wrong is None:
        return [child._outcome.output for child in children if child._outcome is not None]
    extras = actor.extras()
    if extras.children:
        await end_children(runtime, actor, extras, stays_open=False)
    if wrong.status is RunState.CANCELLED:
        raise RunCancelled(wrong)
    failed = next(child for child in children if child._outcome is wrong)
    assert failed._exception is not None or wrong.error is not None
    if failed._exception is not None:
        raise failed._exception
    assert wrong.error is not None
    raise TimeoutError(f"branch {wrong.run_id}: {wrong.error.message}")
