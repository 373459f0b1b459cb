"""Between actors and the journal: what is written when. What earlier processes wrote is `earlier`'s.

What is written: a row when a run is admitted; a checkpoint at each node boundary behind which something was paid or done;
the outcome. What waits: a response with tool calls is committed before its tools run, and an outcome before it is told.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
import trio

from runmgr.agent import AgentRun
from runmgr.agent.nodes import CallToolsNode, ModelRequestNode
from runmgr.exceptions import JournalError, UserError
from runmgr.journal import JournalReader, JournalWriter, open_journal, open_journal_writer
from runmgr.journal.codec import (
    CheckpointRecord,
    counts,
    encode_any,
    encode_checkpoint,
    encode_outcome,
    encode_plain,
    encode_record,
)
from runmgr.messages import ToolCallPart, ToolReturnPart
from runmgr.messages.codec import wire_form, wire_forms
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.records.snapshots import PendingGraph, RunSnapshot
from runmgr.usage import RunUsage

from . import graph_form
from .amounts import COST_LANE, INPUT, OUTPUT
from .claims import covers, encode_spent, next_claim, read_spent
from .earlier import Earlier
from .identity import ASKED, Identities, asked

if TYPE_CHECKING:
    from .actor import Actor
    from .jobs import GraphJob
    from .runtime import Runtime

_ZERO = Decimal(0)
_NO_RETRIES: dict[str, int] = {}
_PLAIN = frozenset({str, int, bool, type(None)})

__all__ = ("RunJournal", "open_run_journal")


class RunJournal:
    """The journal of one supervisor."""

    __slots__ = (
        "_asked",
        "_claim",
        "_claimed",
        "_encoded",
        "_ended",
        "_fresh",
        "_ids",
        "_late",
        "_prompt",
        "_runtime",
        "_told",
        "closing",
        "earlier",
        "writer",
    )

    def __init__(self, runtime: Runtime, writer: JournalWriter, reader: JournalReader | None) -> None:
        self.writer = writer
        self._runtime = runtime
        self._late: dict[Actor, Any] = {}
        """Checkpoints that are put off until the next commit: the stepper."""
        self._asked: dict[Actor, tuple[Any, int]] = {}
        """Runs whose last row holds a request that was sent, the last message of their history then: when, and its parts."""
        self._claim: int | None = None
        """What the commit that is under way says that may have been spent."""
        self._claimed: int | None = None
        """What the last one said."""
        self.closing = False
        self._ids = Identities(max(1_000, writer.runs))
        self._fresh: dict[str, tuple[int, int]] = {}
        """Ids that were given to runs which are not admitted yet, and what it takes to give them back."""
        self._prompt: str | None = None
        """What the last run was asked that was given an id, where that is all, and its JSON."""
        self._encoded = b""
        self._told = self._tell  # one for all runs
        spent: dict[str, Any] = {} if reader is None else reader.meta("spent") or {}
        self._ended: int | None = 0 if reader is None else spent.get("ended")
        """Outcomes in the file; None where an older runmgr wrote it, and only counting them all would tell."""
        left = 0 if reader is None or self._ended is None else reader.indexed() - self._ended
        self.earlier = Earlier(writer.path, reader, left)
        writer.on_error(runtime.escalate)
        writer.with_each_commit(self._before_commit, self._after_commit)

    # ---------------------------------------------------------------- what is spent

    def claimed(self) -> bool:
        """Whether the journal says that all that is reserved now may have been spent."""
        return covers(self._runtime, self._claimed)

    async def claim(self) -> None:
        """Wait until the journal says so of what is reserved by now. Cancelled, it may or may not say so."""
        self.writer.commit_soon()
        await self.writer.committed()

    def _spent(self) -> bytes:
        self._claim = None if self.closing else next_claim(self._runtime)
        return encode_spent(self._runtime, self._claim, self._ended)

    def _after_commit(self) -> None:
        self._claimed = self._claim

    # ---------------------------------------------------------------- before a run

    def identify(
        self, agent: Any, prompt: Any, given: Any, options: dict[str, Any]
    ) -> tuple[str | None, str]:
        """An id for a run that was given none: by what it is asked, and how often that was asked before; and who is asked.

        Args:
            agent: who is asked.
            prompt: what.
            given: the input, where that is not the prompt.
            options: of the run.
        """
        who = self._ids.who(agent, options)
        try:
            if type(prompt) is str and given is None and (not options or options.keys().isdisjoint(ASKED)):
                content = encode_plain(prompt)
                self._prompt, self._encoded = prompt, content  # it is wanted again for the run's row
            else:
                content = asked(prompt, given, options)
        except (ValueError, TypeError):
            return None, who.fingerprint  # it is refused further on, with the name of the field
        run_id, self._fresh[run_id] = self._ids.next_run(content, who)
        return run_id, who.fingerprint

    def identify_graph(self, graph: Any, node: Any, state: Any) -> str:
        """The same for a graph: by its name, its state and the node that it begins with.

        Raises:
            UserError: names the field that has no JSON form.
        """
        who = self._ids.named(getattr(graph, "name", None) or "graph")
        run_id, self._fresh[run_id] = self._ids.next_run(graph_form.content(graph, node, state), who)
        return run_id

    def not_admitted(self, actor: Actor) -> None:
        """The run was not admitted after all: the next equal one may have its id, unless others came since."""
        key = self._fresh.pop(actor.run_id, None)
        if key is not None:
            self._ids.give_back(key)

    def replayed(self, actor: Actor) -> None:
        """The run has ended in an earlier process: its id is taken."""
        self._fresh.pop(actor.run_id, None)

    def fingerprint(self, agent: Any, options: dict[str, Any] | None) -> str:
        """Who is asked, for runs that say nothing of it themselves."""
        return self._ids.who(agent, options or {}).fingerprint

    def prepare(self, actor: Actor) -> None:
        """Encode what the row of an admitted run holds, so that what has no JSON form is refused at once.

        Raises:
            UserError: names the field.
        """
        data = actor._input
        given: bytes | None = None
        metadata: bytes | None = None
        field = "input"
        try:
            if data is not None:
                given = self._encoded if data is self._prompt else encode_any(data)
            if actor._metadata is not None:
                field = "metadata"
                metadata = encode_any(actor._metadata)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"run {actor.run_id}: its {field} cannot be kept in the journal: {error}. Give plain data, or no journal"
            ) from error
        if not actor._job.is_agent:
            cast("GraphJob", actor._job).check()
        actor._blobs = (given, metadata)

    def admitted(self, actor: Actor) -> None:
        """The run was admitted."""
        self._fresh.pop(actor.run_id, None)
        blobs = actor._blobs
        if blobs is None:  # it goes on from an earlier time, and has its row; or is a branch, and has none
            return
        actor._blobs = None
        if actor._supersedes:
            self.writer.superseded(actor._supersedes)
        actor._journal_run = self.writer.admitted(
            actor.run_id,
            actor._index,
            actor.group,
            actor._fingerprint,
            actor._queued_at,
            blobs[0],
            blobs[1],
        )

    # ---------------------------------------------------------------- during a run

    def checkpoint(self, actor: Actor, stepper: Any, node: Any) -> bool:
        """Keep where the run stands; True where it must not go on before that is committed.

        Args:
            actor: the run.
            stepper: what it drives.
            node: what comes next.

        Raises:
            UserError: a message has content without a JSON form; the run fails by it.
        """
        if not actor._journal_run:
            return False  # a branch of a graph's node: kept with the step of that node, of which it is a part
        plain = type(stepper) is AgentRun
        if not plain and not actor._job.is_agent:
            data = cast("GraphJob", actor._job).snapshot(stepper)
            self._keep(actor, RunSnapshot(run_id=actor.run_id, pending=PendingGraph(data), usage=RunUsage()))
            return True
        if type(node) is ModelRequestNode:
            if actor._steps == 1 and not actor._checkpoints:
                return False  # its prompt has become a request: nothing is paid or done yet
            deps = stepper._deps if plain else stepper.ctx.deps
            manager = deps.manager
            if deps.plan.history_processors or (manager is not None and manager.pending_retries()):
                return self._keep_all(actor, stepper)  # the request might be another by the time it is kept
            for part in node.request.parts:
                if (
                    type(part) is not ToolReturnPart
                    or type(part.content) not in _PLAIN
                    or part.metadata is not None
                ):
                    return self._keep_all(actor, stepper)  # it might have no JSON form
            # Results of tools. The response with their calls is committed already, and nobody waits for what they gave: it is
            # kept with the next commit, unless the next response comes before that, whose checkpoint holds it too.
        else:
            begun = actor._steps == 1 and not actor._checkpoints
            response = getattr(node, "model_response", None)
            if response is None:
                return not begun and self._keep_all(actor, stepper)
            calls = False
            for part in response.parts:
                if type(part) is ToolCallPart:
                    calls = True
                    break
            if begun:
                if calls:  # It was begun with calls that wait, approved perhaps: their tools are next.
                    self._keep(actor, stepper.snapshot())
                return calls
            if node.tool_call_results is not None:
                return self._keep_all(actor, stepper)
            deps = stepper._deps if plain else stepper.ctx.deps
            if calls or actor._epoch < 0 or not deps.plan.plain_text:
                if self._late:
                    self._late.pop(actor, None)  # this one says more
                self._write(actor, stepper, response)
                return True
            # No tool, validator or output function will see it; mostly the run ends within this very step. It is kept
            # with the next commit, if the run has not got further by then.
        self._late[actor] = stepper  # nothing is made up of it until then
        writer = self.writer
        if writer.sleeping is not None:
            writer.wake()
        return writer.backlogged

    def _keep_all(self, actor: Actor, stepper: Any) -> bool:
        """As `checkpoint`, for what is seldom."""
        snapshot = stepper.snapshot()
        self._keep(actor, snapshot)
        # A last response with calls is committed already. One without was put off, perhaps, and what comes next acts on it.
        waits = bool(snapshot.messages) and not _has_calls(snapshot.messages[-1])
        return waits or self.writer.backlogged

    def _keep_late(self, actor: Actor, stepper: Any) -> None:
        """Keep where a run stands whose checkpoint was put off."""
        # Else it was restarted, or is about to be, and what is kept next begins from there.
        if stepper is actor._stepper and actor._snapshot is None and actor._epoch >= 0:
            with suppress(UserError):  # what has no JSON form will be met again when the run goes on or ends
                self._keep_now(actor, stepper)

    def _keep_now(self, actor: Actor, stepper: Any) -> None:
        """Keep where a run stands that acts on a response, or whose request is on its way."""
        node = stepper.next_node
        if type(node) is CallToolsNode:
            self._write(actor, stepper, node.model_response)
        elif type(node) is ModelRequestNode:
            request = node.request
            history = stepper.ctx.state.message_history
            if node._partial is not None or not history or history[-1] is not request:
                self._keep(actor, stepper.snapshot())
                return
            # It was sent: it is in the history already, and comes there from this row when the next one says so.
            self._write(actor, stepper, None, request)
            self._asked[actor] = (request.timestamp, len(request.parts))

    def _write(self, actor: Actor, stepper: Any, response: Any, request: Any = None) -> None:
        """A checkpoint of an agent's run straight from what it holds: as `_keep`, without a snapshot.

        Args:
            actor: the run.
            stepper: its agent's run.
            response: what is acted on next; None where a request is on its way.
            request: that: the last message of its history.
        """
        if type(stepper) is AgentRun:
            state, deps = stepper._state, stepper._deps
        else:  # somebody's own, around one
            state, deps = stepper.ctx.state, stepper.ctx.deps
        history, usage, epoch = state.message_history, state.usage, state.history_epoch
        known = actor._known
        reset = asked = False
        if epoch != actor._epoch:
            known, reset = 0, True
            self._asked.pop(actor, None)
        elif self._asked and self._was_asked(actor, history):
            known, asked = known + 1, True
        upto = len(history)
        pending, step, retries, wire = "call_tools", state.run_step, _NO_RETRIES, None
        paid, cost, unpriced = _money(actor, usage)
        try:
            if request is not None:
                pending, step, upto, wire = "model_request", step - 1, upto - 1, wire_form(request)
            else:
                response = None if history[-1] is response else wire_form(response)
                if deps.manager is not None:  # a request is put off only where no tool failed
                    retries = deps.manager.retries
            body = encode_record(
                CheckpointRecord(
                    pending,
                    counts(usage),
                    wire_forms(history[known:upto]) if known < upto else None,
                    reset,
                    wire,
                    response,
                    deps.new_message_index,
                    step,
                    state.retries,
                    retries,
                    state.metadata,
                    None if paid is None else counts(paid),
                    str(cost) if cost else "0",
                    unpriced,
                    actor._attempts,
                    actor._started_at,
                    actor._model,
                    asked=asked,
                )
            )
        except (ValueError, TypeError) as error:
            raise _no_form(error) from error
        self.writer.checkpoint(actor._journal_run, actor._checkpoints, body)
        actor._checkpoints += 1
        actor._known = upto
        actor._epoch = epoch

    def _keep(self, actor: Actor, snapshot: RunSnapshot) -> None:
        if self._late:
            self._late.pop(actor, None)  # this one says more
        messages, epoch = snapshot.messages, snapshot.history_epoch
        reset = epoch != actor._epoch
        asked = bool(self._asked) and self._was_asked(actor, messages) and not reset
        paid, cost, unpriced = _money(actor, snapshot.usage)
        try:
            body = encode_checkpoint(
                snapshot,
                actor._known + asked,
                reset=reset,
                paid=paid,
                cost=cost,
                unpriced=unpriced,
                attempts=actor._attempts,
                started_at=actor._started_at,
                model=actor._model,
                asked=asked,
            )
        except (ValueError, TypeError) as error:
            raise _no_form(error) from error
        self.writer.checkpoint(actor._journal_run, actor._checkpoints, body)
        actor._checkpoints += 1
        actor._known = len(messages)
        actor._epoch = epoch

    def _was_asked(self, actor: Actor, history: list[Any]) -> bool:
        """Whether the history, not rewritten since, goes on with the request that the run's last row holds, as it is there."""
        kept = self._asked.pop(actor, None)
        if kept is None or actor._known >= len(history):
            return False
        request = history[actor._known]
        return request.timestamp is kept[0] and len(request.parts) == kept[1]  # else it was sent again since

    def _before_commit(self) -> bytes:
        """Called as a transaction is about to be made up: add what was put off; gives what was spent."""
        while self._late:
            self._keep_late(*self._late.popitem())
        return self._spent()

    # ---------------------------------------------------------------- after a run

    def ended(self, actor: Actor, outcome: RunOutcome, epoch: int, body: bytes | None = None) -> None:
        """The run has ended: tell its outcome once it is committed.

        Args:
            actor: the run.
            outcome: how it ended.
            epoch: of its history.
            body: the outcome as it is kept, where somebody has encoded it already, with all messages.
        """
        run = actor._journal_run
        if not run:
            self._runtime.tell(actor, outcome)
            return
        if self._late:
            self._late.pop(actor, None)
        reset = epoch != actor._epoch
        asked = False
        if self._asked:
            asked = self._was_asked(actor, outcome.messages) and not reset
        if self._ended is not None:
            self._ended += 1
        if body is None:
            body = encode_outcome(outcome, actor._known + asked, reset=reset, asked=asked)
        at = outcome.finished_at
        self.writer.ended_with(run, outcome.status._value_, at, body, self._told, actor, outcome)

    def _tell(self, ok: bool, actor: Actor, outcome: RunOutcome) -> None:
        """An outcome is committed, or cannot be."""
        self._runtime.tell(actor, outcome if ok else self._lost(outcome))

    def left_open(self, actor: Actor) -> None:
        """The run ends for this process, or is about to begin again, and the journal is not to hold how: only what it was told last of
        where it stands, if that was put off. Called while it has its stepper.
        """
        stepper = self._late.pop(actor, None)
        if stepper is not None:
            self._keep_late(actor, stepper)
        self._asked.pop(actor, None)

    def _lost(self, outcome: RunOutcome) -> RunOutcome:
        """What is told in the place of an outcome that could not be committed: to the journal the run is open."""
        error = RunError("JournalError", "its outcome could not be written to the journal")
        counts = self._runtime.counts
        counts[outcome.status] -= 1
        counts[RunState.CANCELLED] += 1
        return msgspec.structs.replace(outcome, status=RunState.CANCELLED, output=None, error=error)


def _has_calls(response: Any) -> bool:
    for part in response.parts:  # noqa: SIM110  a generator is twice the time
        if type(part) is ToolCallPart:
            return True
    return False


def _money(actor: Actor, usage: RunUsage) -> tuple[RunUsage | None, Decimal, int]:
    """What the run has cost: its usage in the ledger, where that knows more than the agent; dollars; requests without a price."""
    # Without an earlier process or children its tally is all of it.
    tally = actor._tally if actor._before is None and actor._extras is None else actor.paid()
    if tally is None:
        return None, _ZERO, 0
    packed = tally.packed
    more = packed - usage.requests - usage.input_tokens * INPUT - usage.output_tokens * OUTPUT
    if not more:
        return None, _ZERO, tally.unpriced
    if more > 0 and not more % COST_LANE:
        return None, tally.cost, tally.unpriced
    return tally.usage(), tally.cost, tally.unpriced  # failed attempts are paid too


def _no_form(error: Exception) -> UserError:
    return UserError(
        f"a message of this run cannot be kept in the journal: {error}. Return plain data from tools, or open no journal"
    )


def _read_spent(runtime: Runtime, reader: JournalReader) -> None:
    with reader.undamaged("under 'spent'"):
        read_spent(runtime, reader.meta("spent"))


@asynccontextmanager
async def open_run_journal(
    runtime: Runtime,
    path: str | PathLike[str],
    *,
    resume: bool,
    durability: Literal["process", "power"],
    threaded: bool | None,
) -> AsyncGenerator[RunJournal, None]:
    """Open the journal of a supervisor.

    Raises:
        JournalError: it cannot be opened, or holds runs already and is not to be resumed.
    """
    if threaded is None:
        # Under a mock clock a thread would make time jump while it works.
        threaded = type(trio.lowlevel.current_clock()).__name__ == "SystemClock"
    async with open_journal_writer(path, durability=durability, threaded=threaded) as writer:
        reader: JournalReader | None = None
        if writer.runs:
            if not resume:
                raise JournalError(
                    f"{path}: the journal holds {writer.runs:,} runs already; open it with resume=True to go on with them, "
                    "or name another file"
                )
            reader = open_journal(Path(path))
            if threaded:
                await trio.to_thread.run_sync(reader.index)
            else:
                reader.index()
            _read_spent(runtime, reader)
        elif writer.connection.execute("SELECT 1 FROM meta WHERE key = 'spent'").fetchone() is not None:
            # Of a damaged journal all runs may be lost, and what was spent be known.
            with open_journal(Path(path)) as rest:
                _read_spent(runtime, rest)
        journal = RunJournal(runtime, writer, reader)
        try:
            yield journal
            if runtime.stop_reason is None:
                journal.earlier.say_what_is_left()
        finally:
            journal._ids.close()
            journal.closing = True  # nothing is in flight any more: the last commit claims nothing
            writer.commit_soon()
            if reader is not None:
                reader.close()
