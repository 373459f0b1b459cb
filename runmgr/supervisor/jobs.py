"""What an actor drives: anything that steps from node to node until an `End`.

A job is made when a run is submitted and knows how to open its stepper; the actor knows nothing else of agents or
graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from runmgr.agent import Agent
from runmgr.agent.host import current_host
from runmgr.exceptions import UserError
from runmgr.journal.codec import encode_any
from runmgr.records.snapshots import PendingUserPrompt

from . import graph_form
from .family import fork

if TYPE_CHECKING:
    from runmgr.records.outcomes import RunOutcome

__all__ = ("AgentJob", "GraphJob", "Job", "Stepper", "new_message_index")


def new_message_index(stepper: Any) -> int:
    """Where in an agent run's history its own messages begin."""
    return stepper.ctx.deps.new_message_index


class Stepper(Protocol):
    """A run between two nodes: `AgentRun` and `GraphRun` are such."""

    @property
    def next_node(self) -> Any: ...

    async def next(self, node: Any) -> Any:
        """Run a node; give the next one, or an `End`."""
        ...


class Job(Protocol):
    """How to begin a run."""

    is_agent: bool
    budget: Any
    """The run's own `Budget`, or None: the supervisor's ``run_budget`` then."""
    cache_salt: Any
    """Answers are shared through a cache only between runs of equal salt."""

    @property
    def prompt(self) -> Any: ...

    @property
    def name(self) -> str:
        """The agent's name, for accounting; of a graph its name."""
        ...

    def start(self, host: Any) -> Any:
        """The stepper, where nothing has to be opened for it that is to be closed; None where `open` is to be called."""
        ...

    def open(self, host: Any, snapshot: Any) -> AbstractAsyncContextManager[Any]:
        """Open the stepper; ``snapshot`` is where to go on from, or None."""
        ...

    def again(self, stepper: Any, *, from_start: bool) -> Any:
        """Prepare to open anew after a failure; gives the snapshot to open with."""
        ...

    def result_of(self, outcome: RunOutcome) -> Any:
        """The result of a run that was read from the journal."""
        ...

    def abandoned_threads(self, stepper: Any) -> tuple[str, ...]:
        """Names of the sync tools whose threads were left behind."""
        ...


def encode_prompt(agent: Any, prompt: Any) -> bytes:
    """What tells one child run from another, as bytes.

    Raises:
        UserError: the prompt has no JSON form, which a journal needs.
    """
    try:
        text = encode_any(prompt)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"the prompt of this run cannot be kept in the journal: {error}. Give plain data, or no journal"
        ) from error
    return f"{getattr(agent, 'name', None)} ".encode() + text


_DEFERRED = {"calls", "approvals", "metadata"}
_DOOR_OPTIONS = frozenset({"budget", "cache_salt"})


class AgentJob:
    """One run of an agent."""

    __slots__ = ("agent", "budget", "cache_salt", "options", "prompt")

    is_agent = True

    def __init__(self, agent: Any, prompt: Any, options: dict[str, Any] | None) -> None:
        self.agent = agent
        self.prompt = prompt
        self.budget = self.cache_salt = None
        if options is not None and not options.keys().isdisjoint(_DOOR_OPTIONS):
            options = dict(options)
            self.budget = options.pop("budget", None)
            self.cache_salt = options.pop("cache_salt", None)
        self.options = options or None

    @property
    def name(self) -> str:
        return getattr(self.agent, "name", None) or "agent"

    def start(self, host: Any) -> Any:
        agent = self.agent
        if not isinstance(agent, Agent):
            return None
        return agent._start_hosted(self.prompt, host, host.run_id, self.options)

    def open(self, host: Any, snapshot: Any) -> AbstractAsyncContextManager[Any]:
        options = self.options
        if snapshot is not None:
            options = _for_snapshot(options, snapshot)
            if type(snapshot.pending) is PendingUserPrompt and snapshot.pending.prompt is None:
                snapshot = msgspec.structs.replace(snapshot, pending=PendingUserPrompt(self.prompt))
            return self.agent.iter(host=host, run_id=host.run_id, snapshot=snapshot, **options)
        if options is None:
            return self.agent.iter(self.prompt, host=host, run_id=host.run_id)
        return self.agent.iter(self.prompt, host=host, run_id=host.run_id, **options)

    def again(self, stepper: Any, *, from_start: bool) -> Any:
        return None if from_start else stepper.snapshot()

    def result_of(self, outcome: RunOutcome) -> Any:
        from runmgr.agent import AgentRunResult
        from runmgr.agent.state import GraphAgentState

        state = GraphAgentState(
            message_history=outcome.messages,
            usage=outcome.usage,
            run_id=outcome.run_id,
            metadata=outcome.metadata,
            abandoned_threads=list(outcome.abandoned_threads),
        )
        return AgentRunResult(self._output(outcome), None, state, outcome.new_message_index, None)

    def _output(self, outcome: RunOutcome) -> Any:
        """The output: plain data, but for deferred calls, which somebody is to answer."""
        output: Any = outcome.output
        if type(output) is not dict or cast("dict[str, Any]", output).keys() != _DEFERRED:
            return cast("Any", output)
        from pydantic import TypeAdapter, ValidationError

        from runmgr.tools.deferred import DeferredToolRequests

        try:
            return TypeAdapter(DeferredToolRequests).validate_python(output)
        except ValidationError:
            return cast("Any", output)

    def abandoned_threads(self, stepper: Any) -> tuple[str, ...]:
        return getattr(stepper, "abandoned_threads", ())


def _for_snapshot(options: dict[str, Any] | None, snapshot: Any) -> dict[str, Any]:
    """Without what the snapshot holds already."""
    held = {"message_history"}
    if (
        type(snapshot.pending) is not PendingUserPrompt
    ):  # else the answers that it was begun with are still to be acted on
        held.add("deferred_tool_results")
    return {name: value for name, value in (options or {}).items() if name not in held}


class GraphJob:
    """One run of a user's own node graph."""

    __slots__ = ("budget", "cache_salt", "deps", "graph", "node", "state")

    is_agent = False
    prompt = None

    @property
    def name(self) -> str:
        return getattr(self.graph, "name", None) or "graph"

    def __init__(self, graph: Any, node: Any, state: Any, deps: Any) -> None:
        self.budget = self.cache_salt = None
        self.graph = graph
        self.node = node
        self.state = state
        self.deps = deps

    def start(self, host: Any) -> Any:  # noqa: ARG002  its block may open a span
        return None

    def open(self, host: Any, snapshot: Any) -> AbstractAsyncContextManager[Any]:
        if snapshot is not None:
            self.node, self.state = graph_form.decode(self.graph, snapshot.pending.data)
        # In the run's own task, whose context ends with it: agents in the graph's nodes pass its doors.
        current_host.set(host)

        async def run_branches(branches: Sequence[Any]) -> list[Any]:
            return await fork(host, self, branches)

        return self.graph.iter(self.node, state=self.state, deps=self.deps, fork=run_branches)

    def branch(self, node: Any) -> GraphJob:
        """One of several nodes that a node returned, to its own end, with the same state and dependencies."""
        return GraphJob(self.graph, node, self.state, self.deps)

    def check(self) -> None:
        """Refuse what a journal could not hold.

        Raises:
            UserError: names the field.
        """
        graph_form.check(self.graph, self.node, self.state)

    def snapshot(self, stepper: Any) -> bytes:
        """Where it stands between two nodes.

        Raises:
            UserError: names the field of state or node that has no JSON form.
        """
        return graph_form.encode(self.graph, stepper.next_node, stepper.state)

    def again(self, stepper: Any, *, from_start: bool) -> Any:
        if not from_start:
            self.node = stepper.next_node  # the node that failed; the state is as it left it
        return None

    def result_of(self, outcome: RunOutcome) -> Any:
        return outcome.output

    def abandoned_threads(self, stepper: Any) -> tuple[str, ...]:  # noqa: ARG002  nodes have no threads of ours
        return ()
