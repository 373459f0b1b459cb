"""``Agent.run_stream``: a run whose output is read while it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, cast

from typing_extensions import deprecated

from runmgr.agent.calls import handle_tool_calls
from runmgr.agent.iterate import Iteration, Whole
from runmgr.agent.nodes import CallToolsNode, ModelRequestNode
from runmgr.agent.outcome import AgentRunResult, with_output_return
from runmgr.agent.respond import finish
from runmgr.agent.result import FinalResult
from runmgr.agent.run import AgentRun
from runmgr.agent.state import build_run_context
from runmgr.agent.stream import AgentStream, ModelStream
from runmgr.exceptions import AgentRunError, UserError
from runmgr.graph import End
from runmgr.messages import FinalResultEvent, ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from runmgr.output import OutputDataT
from runmgr.tools.types import AgentDepsT
from runmgr.usage import RunUsage

__all__ = ("StreamedRunResult", "open_stream")


class StreamedRunResult(Generic[AgentDepsT, OutputDataT]):
    """The result of a run that is still coming; use it within the block of ``run_stream``.

    Args:
        all_messages: the run's history.
        new_message_index: where the run's own messages begin in it.
        stream_response: the response that holds the output.
        on_complete: called once when it has come to its end.
        run_result: the result, where the run ended without a stream.
    """

    def __init__(
        self,
        all_messages: list[ModelMessage],
        new_message_index: int,
        stream_response: AgentStream[AgentDepsT, OutputDataT] | None = None,
        on_complete: Callable[[], Awaitable[None]] | None = None,
        run_result: AgentRunResult[OutputDataT] | None = None,
    ) -> None:
        self._all_messages = all_messages
        self._new_message_index = new_message_index
        self._stream_response = stream_response
        self._on_complete = on_complete
        self._run_result = run_result
        self._last_response: ModelResponse | None = None
        self.is_complete: bool = False
        """Whether the output has been read to its end, by one of the ``stream_...`` methods or `get_output`."""

    # --------------------------------------------------------------- messages

    def all_messages(self, *, output_tool_return_content: str | None = None) -> list[ModelMessage]:
        """The whole history; the response is in it once it is complete, or what came of it after the block.

        Args:
            output_tool_return_content: stands in for what the output tool's call was answered with, in a copy.
        """
        if output_tool_return_content is None:
            return self._all_messages
        final = self._stream_response.final_result_event if self._stream_response is not None else None
        if final is None and self._run_result is not None:
            return self._run_result.all_messages(output_tool_return_content=output_tool_return_content)
        name = final.tool_name if final is not None else None
        return with_output_return(self._all_messages, name, output_tool_return_content)

    def all_messages_json(self, *, output_tool_return_content: str | None = None) -> bytes:
        """`all_messages` as JSON."""
        return ModelMessagesTypeAdapter.dump_json(
            self.all_messages(output_tool_return_content=output_tool_return_content)
        )

    def new_messages(self, *, output_tool_return_content: str | None = None) -> list[ModelMessage]:
        """The messages of this run, without those that it started from."""
        return self.all_messages(output_tool_return_content=output_tool_return_content)[
            self._new_message_index :
        ]

    def new_messages_json(self, *, output_tool_return_content: str | None = None) -> bytes:
        """`new_messages` as JSON."""
        return ModelMessagesTypeAdapter.dump_json(
            self.new_messages(output_tool_return_content=output_tool_return_content)
        )

    # ----------------------------------------------------------------- output

    def stream_output(self, *, debounce_by: float | None = 0.1) -> AsyncIterator[OutputDataT]:
        """The output, as far as it can be validated already, and whole at the end.

        Args:
            debounce_by: group what comes within so many seconds (trio's clock); None shows everything at once.
        """
        if self._stream_response is None:
            return Whole(None, self._complete, lambda: self._finished().output)
        return Whole(self._stream_response.stream_output(debounce_by=debounce_by), self._complete)

    @deprecated("`StreamedRunResult.stream` is deprecated, use `StreamedRunResult.stream_output` instead.")
    def stream(self, *, debounce_by: float | None = 0.1) -> AsyncIterator[OutputDataT]:
        """Old name of `stream_output`."""
        return self.stream_output(debounce_by=debounce_by)

    def stream_text(self, *, delta: bool = False, debounce_by: float | None = 0.1) -> AsyncIterator[str]:
        """The text, as far as it has come.

        Args:
            delta: what is new each time instead of the whole; validators are not applied then.
            debounce_by: as for `stream_output`.

        Raises:
            UserError: the output is not text.
        """
        if self._stream_response is not None:
            return Whole(
                self._stream_response.stream_text(delta=delta, debounce_by=debounce_by), self._complete
            )
        output = self._finished().output
        if not isinstance(output, str):
            raise UserError("stream_text() can only be used with text responses")
        text: str = output
        return Whole(None, self._complete, lambda: text)

    def stream_responses(
        self, *, debounce_by: float | None = 0.1
    ) -> AsyncIterator[tuple[ModelResponse, bool]]:
        """The response, again and again, as far as it has come; and whether this is the last time.

        Args:
            debounce_by: as for `stream_output`.
        """
        source = None
        if self._stream_response is not None:
            source = _NotLast(self._stream_response.stream_responses(debounce_by=debounce_by))

        def last() -> tuple[ModelResponse, bool]:
            self._last_response = self.response
            return self._last_response, True

        return Whole(source, self._complete, last)

    @deprecated(
        "`StreamedRunResult.stream_structured` is deprecated, use `StreamedRunResult.stream_responses` instead."
    )
    def stream_structured(
        self, *, debounce_by: float | None = 0.1
    ) -> AsyncIterator[tuple[ModelResponse, bool]]:
        """Old name of `stream_responses`."""
        return self.stream_responses(debounce_by=debounce_by)

    async def get_output(self) -> OutputDataT:
        """Read the response to its end and give the output.

        Raises:
            ValidationError: it is not valid. (A stream has no second try.)
            UnexpectedModelBehavior: there is none.
        """
        if self._stream_response is None:
            output = self._finished().output
        else:
            output = await self._stream_response.get_output()
        await self._complete()
        return output

    async def validate_response_output(
        self, message: ModelResponse, *, allow_partial: bool = False
    ) -> OutputDataT:
        """The output of a response that `stream_responses` gave.

        Raises:
            ValidationError: it is not valid.
            UnexpectedModelBehavior: there is no output in it.
        """
        if self._stream_response is None:
            return self._finished().output
        return await self._stream_response.validate_response_output(message, allow_partial=allow_partial)

    @deprecated("`validate_structured_output` is deprecated, use `validate_response_output` instead.")
    async def validate_structured_output(
        self, message: ModelResponse, *, allow_partial: bool = False
    ) -> OutputDataT:
        """Old name of `validate_response_output`."""
        return await self.validate_response_output(message, allow_partial=allow_partial)

    async def _complete(self) -> None:
        if self.is_complete:
            return
        self.is_complete = True
        if self._last_response is not None:
            self._last_response.run_id = self.run_id  # as in the history, which holds it from now on
        if self._on_complete is not None:
            await self._on_complete()

    # ------------------------------------------------------------------ about

    def _finished(self) -> AgentRunResult[OutputDataT]:
        if self._run_result is None:
            raise ValueError("No stream response or run result provided")
        return self._run_result

    @property
    def response(self) -> ModelResponse:
        """The response as far as it has come."""
        return self._finished().response if self._stream_response is None else self._stream_response.response

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The run's metadata."""
        return self._finished().metadata if self._stream_response is None else self._stream_response.metadata

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._finished().run_id if self._stream_response is None else self._stream_response.run_id

    def usage(self) -> RunUsage:
        """What the run used so far; providers tell most of it at the end of the response."""
        return self._finished().usage() if self._stream_response is None else self._stream_response.usage()

    def timestamp(self) -> datetime:
        """When the response began."""
        return (
            self._finished().timestamp()
            if self._stream_response is None
            else self._stream_response.timestamp()
        )

    def __repr__(self) -> str:
        return f"<StreamedRunResult is_complete={self.is_complete} run_id={self.run_id!r}>"


class _NotLast(Iteration[tuple[ModelResponse, bool]]):
    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterator[ModelResponse]) -> None:
        super().__init__()
        self._source = source

    async def _next(self) -> tuple[ModelResponse, bool]:
        return await anext(self._source), False


def open_stream(
    opened: AbstractAsyncContextManager[AgentRun[AgentDepsT, OutputDataT]], handler: Any
) -> AbstractAsyncContextManager[StreamedRunResult[AgentDepsT, OutputDataT]]:
    """The block of ``run_stream``.

    Args:
        opened: the run.
        handler: gets the events up to the output; or None.
    """
    return _StreamBlock(opened, handler)


class _StreamBlock(Generic[AgentDepsT, OutputDataT]):
    __slots__ = ("_handler", "_opened", "_run", "_stream")

    def __init__(
        self, opened: AbstractAsyncContextManager[AgentRun[AgentDepsT, OutputDataT]], handler: Any
    ) -> None:
        self._opened = opened
        self._handler = handler
        self._stream: ModelStream[AgentDepsT, OutputDataT] | None = None

    async def __aenter__(self) -> StreamedRunResult[AgentDepsT, OutputDataT]:
        run = self._run = await self._opened.__aenter__()
        try:
            return await self._to_output(run)
        except BaseException as error:
            await self._opened.__aexit__(type(error), error, error.__traceback__)
            raise

    async def _to_output(
        self, run: AgentRun[AgentDepsT, OutputDataT]
    ) -> StreamedRunResult[AgentDepsT, OutputDataT]:
        """Run until a response holds the output."""
        handler = self._handler
        while not isinstance(node := run.next_node, End):
            if isinstance(node, ModelRequestNode):
                opened: ModelStream[Any, Any] = ModelStream(node, run.ctx)
                stream = await opened.__aenter__()
                try:
                    events = _UntilFinal(stream)
                    if handler is not None:
                        await handler(build_run_context(run.ctx), events)
                    async for _ in events:
                        pass
                    found = events.final
                except BaseException as error:
                    await opened.__aexit__(type(error), error, error.__traceback__)
                    raise
                if found is not None:
                    self._stream = opened
                    return StreamedRunResult(
                        run.ctx.state.message_history,
                        run.ctx.deps.new_message_index,
                        stream,
                        _OnComplete(run, node, opened, stream, found),
                    )
                await opened.__aexit__(None, None, None)
            elif handler is not None and isinstance(node, CallToolsNode):
                async with cast("CallToolsNode[Any, Any]", node).stream(run.ctx) as tool_events:
                    await handler(build_run_context(run.ctx), tool_events)
            await run.next(cast("Any", node))
        return StreamedRunResult(
            run.ctx.state.message_history, run.ctx.deps.new_message_index, run_result=run.result
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        try:
            if stream is not None:
                if error is None:
                    await stream.aclose()  # whatever is left of it is not read
                else:
                    await stream.__aexit__(kind, error, trace)
        finally:
            await self._opened.__aexit__(kind, error, trace)


class _UntilFinal:
    """A stream's events up to the one that tells of the output."""

    __slots__ = ("_stream", "final")

    def __init__(self, stream: AgentStream[Any, Any]) -> None:
        self._stream = stream
        self.final: FinalResultEvent | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self.final is not None:
            raise StopAsyncIteration
        event = await anext(self._stream)
        if isinstance(event, FinalResultEvent):
            self.final = event
        return event


class _OnComplete:
    """Ends the run when its output has been read: the response goes into the history, its other calls are answered."""

    __slots__ = ("_final", "_node", "_opened", "_run", "_stream")

    def __init__(
        self,
        run: AgentRun[Any, Any],
        node: ModelRequestNode[Any, Any],
        opened: ModelStream[Any, Any],
        stream: AgentStream[Any, Any],
        final: FinalResultEvent,
    ) -> None:
        self._run = run
        self._node = node
        self._opened = opened
        self._stream = stream
        self._final = final

    async def __call__(self) -> None:
        run = self._run
        ctx = run.ctx
        await self._opened.aclose()
        acting = self._node._result
        if acting is None:  # completed without having been read to its end: nothing to act on
            raise AgentRunError("The stream was not read to its end")
        # Validated once, also where only text or responses were read: validators see every output in the end.
        final: FinalResult[Any] = FinalResult(
            await self._stream.get_output(), self._final.tool_name, self._final.tool_call_id
        )
        calls = acting.model_response.tool_calls
        parts: list[Any] = []
        if calls:
            _, parts = await handle_tool_calls(acting, ctx, calls, None, final)
        run._end(finish(ctx, final, parts))
