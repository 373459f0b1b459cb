"""`FunctionModel`: a model that is a function of yours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from runmgr.builtin_tools import SUPPORTED_BUILTIN_TOOLS, AbstractBuiltinTool
from runmgr.exceptions import UnexpectedModelBehavior
from runmgr.messages import (
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    ModelMessage,
    ModelResponse,
    ModelResponseStreamEvent,
    now_utc,
)
from runmgr.models.base import Halves, Model, get_instructions
from runmgr.models.estimate import count_words, estimate_usage
from runmgr.models.stream import StreamedResponse
from runmgr.profiles import ModelProfile, ModelProfileSpec
from runmgr.records.definitions import ModelRequestParameters, ToolDefinition
from runmgr.settings import ModelSettings
from runmgr.structs import Value
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.tools import RunContext

__all__ = (
    "AgentInfo",
    "BuiltinToolCallsReturns",
    "DeltaThinkingCalls",
    "DeltaThinkingPart",
    "DeltaToolCall",
    "DeltaToolCalls",
    "FunctionDef",
    "FunctionModel",
    "FunctionStreamedResponse",
    "StreamFunctionDef",
)


class AgentInfo(Value, kw_only=True, gc=False):
    """What a function behind a `FunctionModel` is told besides the messages.

    Attributes:
        function_tools: tools that the model may call.
        allow_text_output: whether text may be the run's result.
        output_tools: tools whose call ends the run.
        model_settings: merged settings of model, agent and run.
        model_request_parameters: all of what a model is told.
        instructions: the instructions that hold for this request.
    """

    function_tools: list[ToolDefinition]
    allow_text_output: bool
    output_tools: list[ToolDefinition]
    model_settings: ModelSettings | None
    model_request_parameters: ModelRequestParameters
    instructions: str | None


@dataclass(slots=True)
class DeltaToolCall:
    """A piece of a tool call, for stream functions.

    Args:
        name: the tool's name, or a further piece of it.
        json_args: a piece of the arguments' JSON.
        tool_call_id: the call's id.
    """

    name: str | None = None
    json_args: str | None = None
    tool_call_id: str | None = field(default=None, kw_only=True)


@dataclass(slots=True, kw_only=True)
class DeltaThinkingPart:
    """A piece of thinking, for stream functions.

    Args:
        content: a piece of the text.
        signature: a signature over the whole.
    """

    content: str | None = None
    signature: str | None = None


DeltaToolCalls: TypeAlias = dict[int, DeltaToolCall]
"""Pieces of tool calls; calls with the same number are one call."""

DeltaThinkingCalls: TypeAlias = dict[int, DeltaThinkingPart]
"""Pieces of thinking; pieces with the same number are one part."""

BuiltinToolCallsReturns: TypeAlias = dict[int, BuiltinToolCallPart | BuiltinToolReturnPart]
"""Calls of built-in tools and their returns, whole."""

FunctionDef: TypeAlias = Callable[[list[ModelMessage], AgentInfo], ModelResponse | Awaitable[ModelResponse]]
"""Answers a request."""

StreamFunctionDef: TypeAlias = Callable[
    [list[ModelMessage], AgentInfo],
    AsyncIterator[str | DeltaToolCalls | DeltaThinkingCalls | BuiltinToolCallsReturns],
]
"""Answers a request piece by piece; yields either text or dicts of pieces, and at least one of them."""


class FunctionModel(Model):
    """A model that is a function: for tests, simulations and programs that answer themselves.

    A sync function is called where the request is made, on trio's thread: it must not block. An async one may wait
    and is cancelled like any request.

    Args:
        function: answers plain requests.
        stream_function: answers streamed requests, as an async generator. It is closed when the stream is left.
        model_name: by default made from the functions' names.
        profile: what the model can do; by default everything but images.
        settings: defaults for every request.

    Raises:
        TypeError: neither function was given.
    """

    def __init__(
        self,
        function: FunctionDef | None = None,
        *,
        stream_function: StreamFunctionDef | None = None,
        model_name: str | None = None,
        profile: ModelProfileSpec | None = None,
        settings: ModelSettings | None = None,
    ) -> None:
        if function is None and stream_function is None:
            raise TypeError("Either `function` or `stream_function` must be provided")
        self.function = function
        self.stream_function = stream_function
        self._model_name = model_name or f"function:{_name(function)}:{_name(stream_function)}"
        super().__init__(
            settings=settings,
            profile=profile
            or ModelProfile(supports_json_schema_output=True, supports_json_object_output=True),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(function={self.function!r}, stream_function={self.stream_function!r})"

    @property
    def model_name(self) -> str:
        return self._model_name

    @property
    def system(self) -> str:
        return "function"

    @classmethod
    def supported_builtin_tools(cls) -> frozenset[type[AbstractBuiltinTool]]:
        """All of them: the function is told and answers for itself."""
        return SUPPORTED_BUILTIN_TOOLS

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Call the function. A response without usage gets an estimate, every response the model's name.

        Raises:
            AssertionError: there is only a stream function, or the function returned something else than a response.
            Exception: whatever the function raises.
        """
        return self._complete(messages, await self._begin(messages, model_settings, model_request_parameters))

    def in_halves(self) -> Halves | None:
        """What `request` does before and after it waits for the function; None where that is not what is asked, as in a subclass."""
        ours = [getattr(ask, "__func__", None) for ask in (self.request_once, self.request)]
        return (self._begin, self._complete) if ours == _OURS else None

    def _begin(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> Awaitable[Any]:
        settings, params = self.prepare_request(model_settings, model_request_parameters)
        function = self.function
        if function is None:
            raise AssertionError("FunctionModel must receive a `function` to support non-streamed requests")
        # A list of its own: it may keep it, and the run goes on with the other one.
        answer: Any = function(messages[:], _agent_info(messages, settings, params))
        if type(answer) is CoroutineType or (
            not isinstance(answer, ModelResponse) and isinstance(answer, Awaitable)
        ):
            return answer  # pyright: ignore[reportUnknownVariableType]
        return _given(answer)

    def _complete(self, messages: list[ModelMessage], response: Any) -> ModelResponse:
        if not isinstance(response, ModelResponse):
            raise AssertionError(  # noqa: TRY004 (as Pydantic AI has it)
                f"{self._model_name} must return a ModelResponse, it returned {response!r}"
            )
        response.model_name = self._model_name
        if response.usage == _NO_USAGE:
            response.usage = estimate_usage(messages, response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Call the stream function and wait for its first piece.

        Raises:
            AssertionError: there is no stream function.
            ValueError: the function yielded nothing.
            Exception: whatever the function raises.
        """
        del run_context
        settings, params = self.prepare_request(model_settings, model_request_parameters)
        function = self.stream_function
        if function is None:
            raise AssertionError(
                "FunctionModel must receive a `stream_function` to support streamed requests"
            )
        pieces = function(messages[:], _agent_info(messages, settings, params))
        try:
            try:
                first = await anext(pieces)
            except StopAsyncIteration:
                raise ValueError("Stream function must return at least one item") from None
            response = FunctionStreamedResponse(params, self._model_name, first, pieces)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


_OURS = [FunctionModel.request_once, FunctionModel.request]
"""As they are here, whatever a test puts in their place."""

_NO_USAGE = RequestUsage()


async def _given(answer: Any) -> Any:
    """The answer of a sync function. An async one brings its own checkpoints; this must not make a run that can't be cancelled."""
    await trio.lowlevel.checkpoint_if_cancelled()
    return answer


def _name(function: Callable[..., Any] | None) -> str:
    if function is None:
        return ""
    if isinstance(function, partial):
        return _name(function.func)
    return getattr(function, "__name__", None) or type(function).__name__


def _agent_info(
    messages: list[ModelMessage], settings: ModelSettings | None, params: ModelRequestParameters
) -> AgentInfo:
    return AgentInfo(
        function_tools=params.function_tools,
        allow_text_output=params.allow_text_output,
        output_tools=params.output_tools,
        model_settings=settings,
        model_request_parameters=params,
        instructions=get_instructions(messages, params),
    )


_Piece: TypeAlias = str | DeltaToolCalls | DeltaThinkingCalls | BuiltinToolCallsReturns


class FunctionStreamedResponse(StreamedResponse):
    """What a stream function yields, as a streamed response; usage is estimated piece by piece."""

    def __init__(
        self,
        model_request_parameters: ModelRequestParameters,
        model_name: str,
        first: _Piece,
        rest: AsyncIterator[_Piece],
    ) -> None:
        super().__init__(model_request_parameters)
        self._model_name = model_name
        self._first = first
        self._rest = rest
        self._timestamp = now_utc()
        self._usage = estimate_usage(())

    @property
    def model_name(self) -> str:
        return self._model_name

    @property
    def provider_name(self) -> str | None:
        return None

    @property
    def timestamp(self) -> datetime:
        return self._timestamp

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        for event in self._events(self._first):
            yield event
        async for piece in self._rest:
            for event in self._events(piece):
                yield event

    def _events(self, piece: _Piece) -> Iterator[ModelResponseStreamEvent]:
        manager = self._parts_manager
        if isinstance(piece, str):
            self._count(piece)
            yield from manager.handle_text_delta(vendor_part_id="content", content=piece)
            return
        if not isinstance(piece, dict):
            raise UnexpectedModelBehavior(
                f"{self._model_name} must yield text or dicts of pieces, it yielded {piece!r}"
            )
        for number, delta in piece.items():
            if isinstance(delta, DeltaToolCall):
                self._count(delta.json_args)
                event = manager.handle_tool_call_delta(
                    vendor_part_id=number,
                    tool_name=delta.name,
                    args=delta.json_args,
                    tool_call_id=delta.tool_call_id,
                )
                if event is not None:
                    yield event
            elif isinstance(delta, DeltaThinkingPart):
                self._count(delta.content)
                yield from manager.handle_thinking_delta(
                    vendor_part_id=number,
                    content=delta.content,
                    signature=delta.signature,
                    provider_name="function" if delta.signature else None,
                )
            elif isinstance(delta, BuiltinToolCallPart):
                self._count(delta.args_as_json_str())
                yield manager.handle_part(vendor_part_id=number, part=delta)
            elif isinstance(delta, BuiltinToolReturnPart):
                self._count(delta.model_response_str())
                yield manager.handle_part(vendor_part_id=number, part=delta)
            else:
                raise UnexpectedModelBehavior(
                    f"{self._model_name} must yield dicts of DeltaToolCall, DeltaThinkingPart or built-in tool parts, "
                    f"it yielded {{{number!r}: {delta!r}}}"
                )

    def _count(self, text: str | None) -> None:
        if text:
            self._usage = self._usage + RequestUsage(output_tokens=count_words(text))
