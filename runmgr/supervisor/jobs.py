"""What an actor drives: anything that steps from node to node until an `End`.

A job is made when a run is submitted and knows how to open its stepper; the actor knows nothing else of agents or
graphs.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

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

    @property
    def prompt(self) -> Any: ...

    def open(self, host: Any, snapshot: Any) -> AbstractAsyncContextManager[Any]:
        """Open the stepper; ``snapshot`` is where to go on from, or None."""
        ...

    def again(self, stepper: Any, *, from_start: bool) -> Any:
        """Prepare to open anew after a failure; gives the snapshot to open with."""
        ...

    def result_of(self, outcome: RunOutcome) -> Any:
        """The result of a run that was read from the journal."""
        ...


class AgentJob:
    """One run of an agent."""

    __slots__ = ("agent", "options", "prompt")

    is_agent = True

    def __init__(self, agent: Any, prompt: Any, options: dict[str, Any] | None) -> None:
        self.agent = agent
        self.prompt = prompt
        self.options = options

    def open(self, host: Any, snapshot: Any) -> AbstractAsyncContextManager[Any]:
        options = self.options
        if snapshot is not None:
            return self.agent.iter(host=host, run_id=host.run_id, snapshot=snapshot, **_for_snapshot(options))
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
        )
        return AgentRunResult(outcome.output, None, state, outcome.new_message_index, None)


def _for_snapshot(options: dict[str, Any] | None) -> dict[str, Any]:
    """Without what the snapshot holds already."""
    held = {"message_history", "deferred_tool_results"}
    return {name: value for name, value in (options or {}).items() if name not in held}


class GraphJob:
    """One run of a user's own node graph."""

    __slots__ = ("deps", "graph", "node", "state")

    is_agent = False
    prompt = None

    def __init__(self, graph: Any, node: Any, state: Any, deps: Any) -> None:
        self.graph = graph
        self.node = node
        self.state = state
        self.deps = deps

    def open(self, host: Any, snapshot: Any) -> AbstractAsyncContextManager[Any]:  # noqa: ARG002  graphs have no host
        return self.graph.iter(self.node, state=self.state, deps=self.deps)

    def again(self, stepper: Any, *, from_start: bool) -> Any:
        if not from_start:
            self.node = stepper.next_node  # the node that failed; the state is as it left it
        return None

    def result_of(self, outcome: RunOutcome) -> Any:
        return outcome.output
