"""The three steps of an agent's graph: build the request, ask the model, act on its answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard, cast

from typing_extensions import TypeVar

from runmgr.agent.begin import begin
from runmgr.agent.emit import HostEmit
from runmgr.agent.respond import respond
from runmgr.agent.result import FinalResult
from runmgr.agent.send import prepare_request, receive_response
from runmgr.agent.state import GraphAgentDeps, GraphAgentState
from runmgr.exceptions import AgentRunError
from runmgr.graph import BaseNode, End, GraphRunContext
from runmgr.messages import HandleResponseEvent, ModelRequest, ModelResponse, UserContent
from runmgr.records.definitions import repr_without_defaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runmgr.agent.prompts import SystemPromptRunner
    from runmgr.agent.stream import AgentStream
    from runmgr.tools.deferred import DeferredToolResults

__all__ = (
    "AgentNode",
    "CallToolsNode",
    "EndStrategy",
    "ModelRequestNode",
    "UserPromptNode",
    "is_agent_node",
)

DepsT = TypeVar("DepsT")
NodeRunEndT = TypeVar("NodeRunEndT")

EndStrategy: TypeAlias = Literal["early", "exhaustive"]
"""What happens to tool calls that come beside a final result: ``early`` leaves them, ``exhaustive`` runs them."""


class AgentNode(BaseNode[GraphAgentState, GraphAgentDeps[DepsT, Any], FinalResult[NodeRunEndT]]):
    """A step of an agent's run."""


def is_agent_node(node: Any) -> TypeGuard[AgentNode[Any, Any]]:
    """Whether this is a step, and not the end."""
    return isinstance(node, AgentNode)


@dataclass(repr=False)
class UserPromptNode(AgentNode[DepsT, NodeRunEndT]):
    """Builds the first request from the prompt, or finds out what a history without a new prompt asks for.

    Args:
        user_prompt: the prompt; None goes on from the history.
        deferred_tool_results: answers to the calls that the history ends with.
        instructions: the constant part of the instructions.
        instructions_functions: make the rest of them, before each request.
        system_prompts: constant system prompts.
        system_prompt_functions: make further ones.
        system_prompt_dynamic_functions: those that are asked again when a run continues from a history, by name.
    """

    user_prompt: str | Sequence[UserContent] | None
    deferred_tool_results: DeferredToolResults | None = None
    instructions: str | None = None
    instructions_functions: list[SystemPromptRunner[DepsT]] = field(
        default_factory=list["SystemPromptRunner[DepsT]"]
    )
    system_prompts: tuple[str, ...] = field(default_factory=tuple)
    system_prompt_functions: list[SystemPromptRunner[DepsT]] = field(
        default_factory=list["SystemPromptRunner[DepsT]"]
    )
    system_prompt_dynamic_functions: dict[str, SystemPromptRunner[DepsT]] = field(
        default_factory=dict[str, "SystemPromptRunner[DepsT]"]
    )

    async def run(
        self, ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[DepsT, Any]]
    ) -> ModelRequestNode[DepsT, NodeRunEndT] | CallToolsNode[DepsT, NodeRunEndT]:
        """Build the request.

        Raises:
            UserError: there is nothing to ask, or the history cannot be continued in this way.
        """
        step = await begin(self, ctx)
        if isinstance(step, ModelRequest):
            return ModelRequestNode(step)
        response, results, metadata, prompt = step
        return CallToolsNode(response, results, metadata, prompt)

    def __repr__(self) -> str:
        return repr_without_defaults(self)


@dataclass(repr=False)
class ModelRequestNode(AgentNode[DepsT, NodeRunEndT]):
    """Sends a request and receives the response.

    Args:
        request: appended to the history when it is sent.
    """

    request: ModelRequest
    _result: CallToolsNode[DepsT, NodeRunEndT] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _streaming: bool = field(default=False, init=False, repr=False, compare=False)
    _partial: ModelResponse | None = field(default=None, init=False, repr=False, compare=False)

    async def run(
        self, ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[DepsT, Any]]
    ) -> CallToolsNode[DepsT, NodeRunEndT]:
        """Send the request, wait for the response and count it.

        Cancelling leaves the request in the history and the response, if there is one, unknown.

        Raises:
            UsageLimitExceeded: one more request, or the tokens of this one, are too many.
            UserError: the model cannot do what is asked for, or history processors left nothing to send.
            AgentRunError: what the model raises; the response is being streamed.
        """
        if self._result is not None:
            return self._result
        if self._streaming:
            raise AgentRunError("You must finish streaming before calling run()")
        deps = ctx.deps
        if self._partial is not None:
            self._forget_partial(ctx)
        messages, settings, params = await prepare_request(self.request, ctx)
        host = deps.host
        if host is None:
            response = await deps.model.request(messages, settings, params)
        else:
            response = await host.request(deps.model, messages, settings, params)
        receive_response(response, ctx.state, deps)
        result: CallToolsNode[DepsT, NodeRunEndT] = CallToolsNode(response)
        self._result = result
        return result

    def stream(
        self, ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[DepsT, Any]]
    ) -> AbstractAsyncContextManager[AgentStream[DepsT, NodeRunEndT]]:
        """Send the request and read the response while it comes: ``async with node.stream(ctx) as stream``.

        Leaving the block normally reads the rest, so that the run can go on with the whole response. Leaving it by an
        exception or cancellation closes the connection; the text that has come, and its usage, stay in the history.

        Raises:
            AgentRunError: the node's response is, or was, streamed already.
        """
        from runmgr.agent.stream import ModelStream

        return ModelStream(self, ctx)

    def _forget_partial(self, ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[DepsT, Any]]) -> None:
        """Take back what was kept of a stream that broke off: the request is sent again, by the same node."""
        partial, self._partial = self._partial, None
        history = ctx.state.message_history
        if partial is not None and history and history[-1] is partial:
            history.pop()
            ctx.state.history_epoch += 1

    def __repr__(self) -> str:
        return f"ModelRequestNode(request={self.request!r})"


@dataclass(repr=False)
class CallToolsNode(AgentNode[DepsT, NodeRunEndT]):
    """Acts on a response: runs its tool calls, or finds the run's output in it.

    Args:
        model_response: the response; in the history already.
        tool_call_results: answers from outside by call id; ``'skip'`` where the history has one.
        tool_call_metadata: what approved tools find in ``ctx.tool_call_metadata``, by call id.
        user_prompt: said along with the results.
    """

    model_response: ModelResponse
    tool_call_results: dict[str, Any] | None = None
    tool_call_metadata: dict[str, dict[str, Any]] | None = None
    user_prompt: str | Sequence[UserContent] | None = None
    _next_node: ModelRequestNode[DepsT, NodeRunEndT] | End[FinalResult[NodeRunEndT]] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _streaming: bool = field(default=False, init=False, repr=False, compare=False)

    async def run(
        self, ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[DepsT, Any]]
    ) -> ModelRequestNode[DepsT, NodeRunEndT] | End[FinalResult[NodeRunEndT]]:
        """Run the tools and say what comes next.

        Cancelling cancels the tools and waits for them; the history still ends with the response, whose calls are run
        again when somebody continues from it.

        Raises:
            UnexpectedModelBehavior: retries are used up, or the response is of no use.
            UsageLimitExceeded: the tool calls are too many; none of them ran.
            UserError: a deferred call, and no ``DeferredToolRequests`` among the output types.
            Exception: whatever a tool or validator raises.
        """
        following = self._next_node
        if following is None:
            deps = ctx.deps
            host = deps.host if deps.hosted else None
            emit = HostEmit(host.emit) if host is not None and host.wants_events else None
            following = self._next_node = next_step(await respond(self, ctx, emit))
        return following

    def stream(
        self, ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[DepsT, Any]]
    ) -> AbstractAsyncContextManager[AsyncIterator[HandleResponseEvent]]:
        """Run the tools and see their events: ``async with node.stream(ctx) as events``.

        Leaving the block normally waits for the tools; leaving it by an exception or cancellation cancels them.
        """
        from runmgr.agent.tool_events import ToolEvents

        return ToolEvents(self, ctx)

    def __repr__(self) -> str:
        shown = f"CallToolsNode(model_response={self.model_response!r}"
        for name in ("tool_call_results", "tool_call_metadata", "user_prompt"):
            if (value := getattr(self, name)) is not None:
                shown += f", {name}={value!r}"
        return shown + ")"


_REQUEST_NODE: Any = ModelRequestNode
"""Without parameters: filling them in costs more than the call."""


def next_step(step: ModelRequest | End[FinalResult[Any]]) -> Any:
    """The node for what a response came to."""
    return _REQUEST_NODE(step) if type(step) is ModelRequest else cast("End[FinalResult[Any]]", step)
