"""One model response of a run, read while it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, cast

import trio

from runmgr.agent.cancel import Cancellation, run_cancelled
from runmgr.agent.iterate import Outputs, Responses, Texts
from runmgr.agent.nodes import CallToolsNode, ModelRequestNode
from runmgr.agent.send import prepare_request
from runmgr.agent.state import GraphAgentDeps, GraphAgentState, build_run_context
from runmgr.concurrency import BareNursery
from runmgr.exceptions import AgentRunError, UnexpectedModelBehavior, UserError
from runmgr.graph import GraphRunContext
from runmgr.messages import (
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    FinalResultEvent,
    ModelResponse,
    ModelResponseStreamEvent,
    TextPart,
    ToolCallPart,
)
from runmgr.output import OutputDataT
from runmgr.structs import replace
from runmgr.tools.deferred import DeferredToolRequests
from runmgr.tools.types import AgentDepsT
from runmgr.usage import RunUsage

if TYPE_CHECKING:
    from runmgr.models import StreamedResponse

__all__ = ("AgentStream", "ModelStream")

NO_OUTPUT: Any = object()


class AgentStream(Generic[AgentDepsT, OutputDataT]):
    """A response while it comes: iterate over it for its events, or over one of its ``stream_...`` methods.

    There is one pass over the events: each iteration goes on where the last one stopped. ``debounce_by`` groups what
    comes within so many seconds (trio's clock) of the first news, to have less to validate and show; None shows
    everything at once.
    """

    def __init__(
        self,
        raw: StreamedResponse,
        ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[AgentDepsT, Any]],
        nursery: trio.Nursery | None,
    ) -> None:
        self._raw = raw
        self._ctx = ctx
        self._nursery = nursery
        self._events = aiter(raw)
        self._pumped: trio.MemoryReceiveChannel[ModelResponseStreamEvent] | None = None
        self._pump_error: Exception | None = None
        self._counted = False
        self._checks_tokens = ctx.deps.usage_limits.has_token_limits()
        self.exhausted = False
        """Whether the response has come to its end."""
        self._output: Any = NO_OUTPUT

    # ------------------------------------------------------------------ about

    @property
    def response(self) -> ModelResponse:
        """The response as far as it has come."""
        return self._raw.get()

    def get(self) -> ModelResponse:
        """The response as far as it has come."""
        return self._raw.get()

    @property
    def final_result_event(self) -> FinalResultEvent | None:
        """What told that this response holds the run's output, if anything has yet."""
        return self._raw.final_result_event

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._ctx.state.run_id

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The run's metadata."""
        return self._ctx.state.metadata

    def usage(self) -> RunUsage:
        """What the run used, this response included as far as its usage is known."""
        usage = self._ctx.state.usage
        return usage + (self._raw.usage() if not self._counted else RunUsage())

    def timestamp(self) -> datetime:
        """When the response began."""
        return self._raw.timestamp

    # -------------------------------------------------------------- iteration

    def __aiter__(self) -> AsyncIterator[ModelResponseStreamEvent]:
        return self

    async def __anext__(self) -> ModelResponseStreamEvent:
        try:
            event = await self._next()
        except StopAsyncIteration:
            self.exhausted = True
            raise
        if self._checks_tokens:
            self._ctx.deps.usage_limits.check_tokens(self.usage())
        return event

    async def _next(self) -> ModelResponseStreamEvent:
        if self._pumped is not None:
            try:
                return await self._pumped.receive()
            except trio.EndOfChannel:
                if self._pump_error is not None:
                    raise self._pump_error from None
                if (
                    cancellation := self._ctx.deps.cancellation
                ) is not None and cancellation.reason is not None:
                    raise run_cancelled(self._ctx) from None
                raise StopAsyncIteration from None
        return await self._from_model()

    async def _from_model(self) -> ModelResponseStreamEvent:
        cancellation = self._ctx.deps.cancellation
        if cancellation is None or not cancellation.scoped:
            return await anext(self._events)
        event = await cancellation.guard(_anext, self._events)
        if event is None:
            if cancellation.reason is not None:
                raise run_cancelled(self._ctx)
            raise StopAsyncIteration
        return event

    async def _pump(self, send: trio.MemorySendChannel[ModelResponseStreamEvent]) -> None:
        """Read events on behalf of an iteration that waits with a timeout: a read cannot be taken up again."""
        try:
            with send:
                while True:
                    await send.send(await self._from_model())
        except StopAsyncIteration:
            pass
        except trio.BrokenResourceError:
            pass
        except Exception as error:  # noqa: BLE001 (raised where the stream is iterated over)
            self._pump_error = error

    def start_pump(self, wanted: bool) -> bool:
        """Have events read ahead (by one), for iterations that wait with a timeout; whether they can be.

        A stream whose block has no task of its own to spare shows everything at once.
        """
        if not wanted or self._nursery is None:
            return False
        if self._pumped is None and not self.exhausted:
            send, self._pumped = trio.open_memory_channel[ModelResponseStreamEvent](0)
            self._nursery.start_soon(self._pump, send)
        return True

    def stream_responses(self, *, debounce_by: float | None = 0.1) -> AsyncIterator[ModelResponse]:
        """The response, again and again, as far as it has come."""
        return Responses(self, debounce_by)

    def stream_output(self, *, debounce_by: float | None = 0.1) -> AsyncIterator[OutputDataT]:
        """The output, as far as it can be validated already, and whole at the end.

        Validators and output functions see ``ctx.partial_output`` until the last one.
        """
        return Outputs(self, debounce_by)

    def stream_text(self, *, delta: bool = False, debounce_by: float | None = 0.1) -> AsyncIterator[str]:
        """The text, as far as it has come; validators are applied.

        Args:
            delta: what is new each time instead of the whole; validators are not applied then.
            debounce_by: seconds.

        Raises:
            UserError: the output is not text.
        """
        plan = self._ctx.deps.plan
        if plan.output_schema.mode != "text":
            raise UserError("stream_text() can only be used with text responses")
        finish = None if delta or not plan.output_validators else self._validated
        return Texts(self, debounce_by, delta=delta, finish=finish)

    async def _validated(self, text: str) -> str:
        run_context = build_run_context(self._ctx)
        for validator in self._ctx.deps.plan.output_validators:
            text = await validator.validate(text, run_context, allow_partial=True)
        return text

    # ----------------------------------------------------------------- output

    async def get_output(self) -> OutputDataT:
        """Read the response to its end and give the output.

        Raises:
            UnexpectedModelBehavior: there is none in it.
            ValidationError: it is not valid. (A stream has no second try.)
        """
        async for _ in self:
            pass
        if self._output is NO_OUTPUT:
            self._output = await self.validate_response_output(self._raw.get())
        return self._output

    async def validate_response_output(
        self, message: ModelResponse, *, allow_partial: bool = False
    ) -> OutputDataT:
        """The output of a response of this stream.

        Args:
            message: as `stream_responses` gives it.
            allow_partial: whether it may be incomplete.

        Raises:
            ValidationError: it is not valid.
            ModelRetry: a validator or output function did not like it.
            UnexpectedModelBehavior: there is no output in it.
        """
        deps = self._ctx.deps
        schema = deps.plan.output_schema
        final = self._raw.final_result_event
        if final is None:
            raise UnexpectedModelBehavior("Invalid response, unable to find output")
        run_context = build_run_context(self._ctx)
        if final.tool_name is not None:
            for call in message.tool_calls:
                if call.tool_call_id == final.tool_call_id or call.tool_name == final.tool_name:
                    return cast(
                        "OutputDataT",
                        await deps.tool_manager.call(
                            call, run_context, allow_partial=allow_partial, wrap_validation_errors=False
                        ),
                    )
            raise UnexpectedModelBehavior(
                f"Invalid response, unable to find tool call for {final.tool_name!r}"
            )
        output: Any = self._deferred(message)
        if output is None and schema.allows_image and message.images:
            output = message.images[0]
        if output is None:
            if schema.text_processor is None:
                raise UnexpectedModelBehavior("Invalid response, unable to process text output")
            text = "".join(part.content for part in message.parts if isinstance(part, TextPart))
            output = await schema.text_processor.process(
                text, run_context, allow_partial=allow_partial, wrap_validation_errors=False
            )
        elif isinstance(output, DeferredToolRequests):
            return cast("OutputDataT", output)
        for validator in deps.plan.output_validators:
            output = await validator.validate(
                output, run_context, wrap_validation_errors=False, allow_partial=allow_partial
            )
        return output

    def _deferred(self, message: ModelResponse) -> DeferredToolRequests | None:
        """The calls that the run ends with because others have to answer them."""
        if not self._ctx.deps.plan.output_schema.allows_deferred_tools:
            return None
        requests = DeferredToolRequests()
        for call in message.tool_calls:
            tool = self._ctx.deps.tool_manager.get_tool_def(call.tool_name)
            if tool is not None and tool.defer:
                (requests.approvals if tool.kind == "unapproved" else requests.calls).append(call)
        return requests if requests.calls or requests.approvals else None

    def __repr__(self) -> str:
        return f"<AgentStream response={self._raw.get()!r}>"


async def _anext(events: AsyncIterator[ModelResponseStreamEvent]) -> ModelResponseStreamEvent | None:
    return await anext(events, None)


class ModelStream(Generic[AgentDepsT, OutputDataT]):
    """``async with node.stream(ctx) as stream``.

    Args:
        node: the node whose request is sent.
        ctx: the run.
        helpers: whether to have a nursery for iterations that wait with a timeout, and a scope for ``AgentRun.cancel``:
            both stay open as long as the stream.
    """

    __slots__ = ("_ctx", "_helpers", "_node", "_nursery", "_opened", "_scope", "_stream")

    def __init__(
        self,
        node: ModelRequestNode[AgentDepsT, OutputDataT],
        ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[AgentDepsT, Any]],
        *,
        helpers: bool = True,
    ) -> None:
        self._node = node
        self._ctx = ctx
        self._helpers = helpers
        self._nursery: BareNursery | None = None
        self._opened: AbstractAsyncContextManager[StreamedResponse] | None = None
        self._scope: trio.CancelScope | None = None

    async def __aenter__(self) -> AgentStream[AgentDepsT, OutputDataT]:
        node = self._node
        if node._streaming or node._result is not None:
            raise AgentRunError("stream() should only be called once per node")
        cancellation = self._ctx.deps.cancellation
        if cancellation is None or not cancellation.scoped or not self._helpers:
            raw = await self._open()
        else:
            raw = await self._open_within(cancellation)
        self._ctx.state.usage.requests += 1
        nursery: trio.Nursery | None = None
        if self._helpers:
            self._nursery = BareNursery("reading a stream failed")
            nursery = await self._nursery.__aenter__()
        node._streaming = True
        self._stream: AgentStream[AgentDepsT, OutputDataT] = AgentStream(raw, self._ctx, nursery)
        return self._stream

    async def _open_within(self, cancellation: Cancellation) -> StreamedResponse:
        """Open the stream in a scope that stays open as long as it: a model may hold a nursery of its own open meanwhile.

        The scope is cancelled only while the stream opens; later it would be the reader's code that it cancels.
        """
        if cancellation.reason is not None:
            raise run_cancelled(self._ctx)
        scope = self._scope = trio.CancelScope()
        scope.__enter__()
        cancellation.scopes.add(scope)
        try:
            raw = await self._open()
            if scope.cancel_called:
                await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException as error:
            caught = await self._close_scope(type(error), error, error.__traceback__)
            if caught:
                raise run_cancelled(self._ctx) from None
            raise
        finally:
            cancellation.scopes.discard(scope)
        return raw

    async def _close_scope(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Close the connection, then the scope around it; whether that was what ``error`` came from."""
        scope, self._scope = self._scope, None
        opened, self._opened = self._opened, None
        try:
            if opened is not None:
                await opened.__aexit__(kind, error, trace)
        except BaseException as late:
            if scope is None or not scope.__exit__(type(late), late, late.__traceback__):
                raise
            return True
        return scope is not None and bool(scope.__exit__(kind, error, trace))

    async def _open(self) -> StreamedResponse:
        ctx = self._ctx
        deps = ctx.deps
        self._node._forget_partial(ctx)
        messages, settings, params = await prepare_request(self._node.request, ctx)
        host = deps.host
        if host is None:
            opened = deps.model.request_stream(messages, settings, params, deps.run_context)
        else:
            opened = host.request_stream(deps.model, messages, settings, params, deps.run_context)
        raw = await opened.__aenter__()
        self._opened = opened
        return raw

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                async for _ in self._stream:
                    pass
            except BaseException as late:
                await self._close(type(late), late, late.__traceback__)
                raise
        await self._close(kind, error, trace)

    async def aclose(self) -> None:
        """Leave the stream where it is: close the connection, keep what has come."""
        await self._close(None, None, None)

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            try:
                nursery, self._nursery = self._nursery, None
                if nursery is not None:
                    await nursery.__aexit__(kind, error, trace)
            finally:
                await self._close_scope(kind, error, trace)
        finally:
            self._keep(error)

    def _keep(self, error: BaseException | None) -> None:
        """Count the response and put it into the history: whole, or what has come of it."""
        stream = self._stream
        node = self._node
        ctx = self._ctx
        state = ctx.state
        if stream._counted:
            return
        stream._counted = True
        response = stream.response
        if not stream.exhausted:
            response = partial_response(response)
        response.run_id = state.run_id
        state.usage.incr(response.usage)
        state.message_history.append(response)
        node._streaming = False
        if not stream.exhausted:
            node._partial = response
            return
        node._result = CallToolsNode(response)
        limits = ctx.deps.usage_limits
        if error is None and limits.has_token_limits():
            limits.check_tokens(state.usage)


def partial_response(response: ModelResponse) -> ModelResponse:
    """What is kept of a response that was broken off: a history that holds it can be continued.

    Tool calls go: their arguments may be cut off, and nobody will answer them.
    """
    returned = {part.tool_call_id for part in response.parts if isinstance(part, BuiltinToolReturnPart)}
    parts = [
        part
        for part in response.parts
        if not isinstance(part, ToolCallPart)
        and not (isinstance(part, BuiltinToolCallPart) and part.tool_call_id not in returned)
    ]
    return replace(response, parts=parts)
