"""One run of an agent, driven a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, cast

from runmgr.agent import quick
from runmgr.agent.cancel import Cancellation, run_cancelled
from runmgr.agent.nodes import AgentNode, CallToolsNode, ModelRequestNode, UserPromptNode
from runmgr.agent.outcome import AgentRunResult
from runmgr.agent.result import FinalResult
from runmgr.agent.send import ends_with
from runmgr.agent.state import GraphAgentDeps, GraphAgentState, build_run_context
from runmgr.graph import BaseNode, End, GraphRunContext
from runmgr.messages import ModelMessage, ModelMessagesTypeAdapter, ToolCallPart
from runmgr.output import OutputDataT
from runmgr.records.snapshots import (
    PendingCallTools,
    PendingEnd,
    PendingModelRequest,
    PendingUserPrompt,
    RunSnapshot,
)
from runmgr.tools.types import AgentDepsT
from runmgr.usage import RunUsage

if TYPE_CHECKING:
    from runmgr.records.snapshots import Pending

__all__ = ("AgentRun",)


class AgentRun(Generic[AgentDepsT, OutputDataT]):
    """A run of an agent: iterate over it, or drive it with `next`.

    Made by ``Agent.iter``; use it within that block. A step runs in the caller's own task, and its errors are raised
    where it was driven: out of ``async for``, or of ``next()``. After an error `next_node` is the node that failed and
    the history is valid: ``next(node)`` tries it again, and another run can go on from ``all_messages()``.
    """

    __slots__ = (
        "__weakref__", "_cancellation", "_ctx", "_deps", "_final_metadata", "_next_node", "_result", "_started", "_state",
        "_traceparent_value",
    )  # fmt: skip

    def __init__(
        self,
        state: GraphAgentState,
        deps: GraphAgentDeps[AgentDepsT, Any],
        next_node: AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]],
        *,
        final_metadata: Callable[[], dict[str, Any] | None] | None = None,
        traceparent: str | None = None,
    ) -> None:
        self._state = state
        self._deps = deps
        self._ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[AgentDepsT, Any]] | None = None
        self._next_node: AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]] = next_node
        self._started = False
        self._result: AgentRunResult[OutputDataT] | None = None
        self._final_metadata = final_metadata
        self._traceparent_value = traceparent
        self._cancellation = deps.cancellation

    @property
    def ctx(self) -> GraphRunContext[GraphAgentState, GraphAgentDeps[AgentDepsT, Any]]:
        """The run's state and dependencies, which nodes are given."""
        ctx = self._ctx
        if (
            ctx is None
        ):  # made when the first node is to see it: one object less in each run that waits for its model
            ctx = self._ctx = GraphRunContext(state=self._state, deps=self._deps)
        return ctx

    def _get_ctx(self) -> GraphRunContext[GraphAgentState, GraphAgentDeps[AgentDepsT, Any]]:
        return self.ctx

    @property
    def next_node(self) -> AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]]:
        """The node that runs next, is running, or has failed; `End` when the run is over."""
        return self._next_node

    @property
    def result(self) -> AgentRunResult[OutputDataT] | None:
        """The result; None until the run is over."""
        end = self._next_node
        if type(end) is not End:
            return None
        result = self._result
        if result is None:
            final = end.data
            result = self._result = AgentRunResult(
                final.output,
                final.tool_name,
                self._state,
                self._deps.new_message_index,
                self._traceparent_value,
            )
        return result

    @property
    def run_id(self) -> str:
        """The run's id, also on the messages that it makes."""
        return self._state.run_id

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The run's metadata; where a function makes it, it is asked again when the run is over."""
        return self._state.metadata

    @property
    def history_epoch(self) -> int:
        """Goes up when history processors rewrote the history: between two equal epochs it was only appended to."""
        return self._state.history_epoch

    @property
    def abandoned_threads(self) -> tuple[str, ...]:
        """Sync tools and validators whose threads outlived a cancellation or timeout: their late results are dropped."""
        return tuple(self._state.abandoned_threads)

    def usage(self) -> RunUsage:
        """What was used so far."""
        return self._state.usage

    def all_messages(self) -> list[ModelMessage]:
        """The history so far, with what the run started from. It is the run's own list: copy it to keep it."""
        return self._state.message_history

    def all_messages_json(self, *, output_tool_return_content: str | None = None) -> bytes:
        """`all_messages` as JSON.

        Args:
            output_tool_return_content: stands in for what the output tool's call was answered with.
        """
        return ModelMessagesTypeAdapter.dump_json(self._with_output_return(0, output_tool_return_content))

    def new_messages(self) -> list[ModelMessage]:
        """The messages of this run, without those that it started from."""
        return self._state.message_history[self._deps.new_message_index :]

    def new_messages_json(self, *, output_tool_return_content: str | None = None) -> bytes:
        """`new_messages` as JSON; see `all_messages_json`."""
        start = self._deps.new_message_index
        return ModelMessagesTypeAdapter.dump_json(self._with_output_return(start, output_tool_return_content))

    def _with_output_return(self, start: int, content: str | None) -> list[ModelMessage]:
        if content is not None:
            result = self.result
            if result is None:
                raise ValueError("There is no output tool return before the run is over.")
            return result.all_messages(output_tool_return_content=content)[start:]
        messages = self._state.message_history
        return messages[start:] if start else messages

    # ---------------------------------------------------------------- driving

    def __aiter__(self) -> AgentRun[AgentDepsT, OutputDataT]:
        return self

    async def __anext__(self) -> AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]]:
        """The first node without running it, then each node that a step came to, and the `End` last."""
        if not self._started:
            self._started = True
            return self._next_node
        node = self._next_node
        if type(node) is End:
            raise StopAsyncIteration
        return await self.next(cast("AgentNode[AgentDepsT, OutputDataT]", node))

    async def next(
        self, node: AgentNode[AgentDepsT, OutputDataT]
    ) -> AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]]:
        """Run a node: `next_node`, or another one in its place.

        Returns:
            What comes next; also `next_node` from then on.

        Raises:
            RunCancelled: `cancel` was called.
            TypeError: this is no node.
            Exception: whatever the step raises.
        """
        return await self._step(node)

    _go = quick.go
    _took = quick.took

    def _step(
        self, node: AgentNode[AgentDepsT, OutputDataT]
    ) -> Coroutine[Any, Any, AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]]]:
        """As `next`, without a coroutine of its own."""
        cancellation = self._cancellation
        return self._advance(node) if cancellation is None else self._guarded(cancellation, node)

    async def _guarded(
        self, cancellation: Cancellation, node: AgentNode[AgentDepsT, OutputDataT]
    ) -> AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]]:
        """Run a node, if `cancel` was not called, so that it can be."""
        if cancellation.reason is None:
            if not cancellation.scoped or not self._may_wait(node):
                return await self._advance(node)
            result = await cancellation.guard(self._advance, node)
            if result is not None:
                return result
        raise run_cancelled(self.ctx)

    def _may_wait(self, node: AgentNode[AgentDepsT, OutputDataT]) -> bool:
        """Whether a step can come to a checkpoint. A scope costs more than a short step."""
        plan = self._deps.plan
        if isinstance(node, CallToolsNode):
            if not plan.plain_text:
                return True
            return any(type(part) is ToolCallPart for part in node.model_response.parts)
        if isinstance(node, UserPromptNode):
            return bool(plan.instructions_functions or plan.system_prompt_functions)
        return True

    async def _advance(
        self, node: AgentNode[AgentDepsT, OutputDataT]
    ) -> AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]]:
        """Run a node without a scope of its own."""
        if not isinstance(node, BaseNode):
            raise TypeError(f"`node` must be an instance of `BaseNode`, but got {node!r}.")
        self._started = True
        self._next_node = node
        try:
            following = cast(
                "AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]]", await node.run(self.ctx)
            )
        except StopAsyncIteration as error:  # it would end somebody's `async for` as if the run were over
            raise RuntimeError(f"{type(node).__name__} raised StopAsyncIteration") from error
        if type(following) is End:
            self._end(following)
        else:
            self._next_node = following
        return following

    def _end(self, end: End[FinalResult[OutputDataT]]) -> None:
        self._next_node = end
        if self._final_metadata is not None:
            build_run_context(self.ctx)  # is what the function gets: as of now
            self._state.metadata = self._final_metadata()

    def cancel(self, reason: str = "cancelled") -> None:
        """End the run at its next checkpoint: in a model request, a tool, a stream or a validator, or before its next step.

        Whoever drives the run gets ``RunCancelled``; the history stays valid to continue from. Call it from any task
        of the same ``trio.run``; the first reason counts; after the end it does nothing.
        """
        cancellation = self._cancellation
        if cancellation is None:
            cancellation = self._cancellation = self._deps.cancellation = Cancellation(scoped=False)
        if type(self._next_node) is not End:
            cancellation.cancel(reason)

    # -------------------------------------------------------------- snapshots

    def snapshot(self) -> RunSnapshot:
        """Where the run stands between two steps: ``agent.iter(snapshot=...)`` goes on from it.

        The lists and the usage are the run's own: take what you need before the run goes on.
        """
        state = self._state
        deps = self._deps
        messages = state.message_history
        node = self._next_node
        pending: Pending
        manager = deps.manager
        tool_retries: dict[str, int] = {} if manager is None else manager.retries
        if isinstance(node, ModelRequestNode):
            pending = PendingModelRequest(node.request)
            if node._partial is not None and messages and messages[-1] is node._partial:
                messages = messages[:-1]
            if ends_with(messages, node.request, deps.kept):  # its step failed
                messages = messages[:-1]
            elif manager is not None:
                tool_retries = manager.pending_retries()
        elif isinstance(node, CallToolsNode) and node.tool_call_results is None:
            pending = PendingCallTools(node.model_response)
        elif isinstance(node, End):
            final = node.data
            pending = PendingEnd(final.output, final.tool_name, final.tool_call_id)
        else:
            # Also a response whose calls are answered from outside: nothing of this run is paid for yet, and whoever
            # goes on gives the same answers again.
            prompt = node.user_prompt if isinstance(node, (UserPromptNode, CallToolsNode)) else deps.prompt
            pending = PendingUserPrompt(prompt)
        return RunSnapshot(
            run_id=state.run_id,
            pending=pending,
            messages=messages,
            new_message_index=deps.new_message_index,
            usage=state.usage,
            run_step=state.run_step,
            output_retries=state.retries,
            tool_retries=tool_retries,
            metadata=state.metadata,
            history_epoch=state.history_epoch,
        )

    def _traceparent(self, *, required: bool = True) -> str | None:
        """The W3C traceparent of the run's span."""
        if self._traceparent_value is None and required:
            raise AttributeError("No span was created for this agent run")
        return self._traceparent_value

    def __repr__(self) -> str:
        result = self.result
        shown = "<run not finished>" if result is None else repr(result.output)
        return f"<AgentRun result={shown} usage={self.usage()}>"
