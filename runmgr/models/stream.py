"""`StreamedResponse`: one response while it comes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runmgr.messages import (
    BuiltinToolCallPart,
    FilePart,
    FinalResultEvent,
    FinishReason,
    ModelResponse,
    ModelResponsePartsManager,
    ModelResponseStreamEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.records.definitions import ModelRequestParameters
from runmgr.usage import RequestUsage

__all__ = ("StreamedResponse",)

# Parts that come piece by piece; the others are whole in their start event and have no end event.
_ENDED = (TextPart, ThinkingPart, ToolCallPart, BuiltinToolCallPart)


@dataclass(eq=False)
class StreamedResponse(ABC):
    """A response while it comes: iterate over it for its events, ask `get` for what has come.

    A subclass yields part start and part delta events from `_get_event_iterator`, made with ``_parts_manager``, and
    keeps ``_usage``, ``finish_reason``, ``provider_response_id`` and ``provider_details`` up to date. Iteration adds
    a `PartEndEvent` where a part is followed by the next or by the end, and one `FinalResultEvent` as soon as it is
    certain that the response holds the run's result.

    There is one pass over the events: iterating again goes on where the last iteration stopped. Leaving
    ``request_stream``'s block closes the connection, however far the stream was read.

    Args:
        model_request_parameters: what was asked for; decides what counts as a final result.
    """

    # A dataclass, so that subclasses may be dataclasses with fields of their own, as they are with Pydantic AI.
    model_request_parameters: ModelRequestParameters
    final_result_event: FinalResultEvent | None = field(default=None, init=False)
    provider_response_id: str | None = field(default=None, init=False)
    provider_details: dict[str, Any] | None = field(default=None, init=False)
    finish_reason: FinishReason | None = field(default=None, init=False)
    _parts_manager: ModelResponsePartsManager = field(default_factory=ModelResponsePartsManager, init=False)
    _event_iterator: _Events | None = field(default=None, init=False, repr=False)
    _usage: RequestUsage = field(default_factory=RequestUsage, init=False)
    _came_whole: bool = field(default=False, init=False, repr=False)
    """It was read to its end: its usage is all that it is charged for."""

    def __aiter__(self) -> AsyncIterator[ModelResponseStreamEvent]:
        if self._event_iterator is None:
            self._event_iterator = _Events(self)
        return self._event_iterator

    @abstractmethod
    def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        """The part start and part delta events as the provider sends them; called once."""
        raise NotImplementedError

    @property
    @abstractmethod
    def model_name(self) -> str:
        """The model that answers, as the provider names it."""
        raise NotImplementedError

    @property
    @abstractmethod
    def provider_name(self) -> str | None:
        """The provider."""
        raise NotImplementedError

    @property
    def provider_url(self) -> str | None:
        """The provider's base URL."""
        return None

    @property
    @abstractmethod
    def timestamp(self) -> datetime:
        """When the response began."""
        raise NotImplementedError

    def get(self) -> ModelResponse:
        """The response as far as it has come; what comes later does not change it."""
        return ModelResponse(
            parts=self._parts_manager.get_parts(),
            model_name=self.model_name,
            timestamp=self.timestamp,
            usage=self.usage(),
            provider_name=self.provider_name,
            provider_url=self.provider_url,
            provider_response_id=self.provider_response_id,
            provider_details=self.provider_details,
            finish_reason=self.finish_reason,
        )

    def usage(self) -> RequestUsage:
        """The usage as far as it is known; providers tell most of it at the end."""
        return self._usage

    async def aclose(self) -> None:
        """Stop reading. ``request_stream`` does this at the end of its block; calling it again does nothing."""
        events = self._event_iterator
        if events is not None:
            await events.aclose()


class _Events:
    """A stream's events with part ends and the final result put in.

    An iterator of its own instead of an async generator: nothing to finalise where a reader stops early.
    """

    __slots__ = ("_closed", "_open_index", "_queue", "_source", "_stream")

    def __init__(self, stream: StreamedResponse) -> None:
        self._stream = stream
        self._source = stream._get_event_iterator()
        self._queue: deque[ModelResponseStreamEvent] = deque()
        self._open_index: int | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[ModelResponseStreamEvent]:
        return self

    async def __anext__(self) -> ModelResponseStreamEvent:
        if self._queue:
            return self._queue.popleft()
        if self._closed:
            raise StopAsyncIteration
        try:
            event = await self._source.__anext__()
        except StopAsyncIteration:
            self._closed = self._stream._came_whole = True
            if (end := self._end(None)) is not None:
                return end
            raise
        if not isinstance(event, PartStartEvent):
            return event
        return self._start(event)

    async def aclose(self) -> None:
        self._closed = True
        self._queue.clear()
        source: Any = self._source
        if isinstance(source, AsyncGenerator):
            await source.aclose()

    def _start(self, event: PartStartEvent) -> ModelResponseStreamEvent:
        stream = self._stream
        queue = self._queue
        before = self._open_index
        if before is not None:
            if (end := self._end(event)) is not None:
                queue.append(end)
            if (part := stream._parts_manager.get_part(before)) is not None:
                event.previous_part_kind = part.part_kind
        self._open_index = event.index
        queue.append(event)
        if stream.final_result_event is None:
            final = _final_result(event, stream.model_request_parameters)
            if final is not None:
                stream.final_result_event = final
                queue.append(final)
        return queue.popleft()

    def _end(self, following: PartStartEvent | None) -> PartEndEvent | None:
        if self._open_index is None:
            return None
        part = self._stream._parts_manager.get_part(self._open_index)
        if not isinstance(part, _ENDED):
            return None
        if following is None:
            return PartEndEvent(index=self._open_index, part=part)
        return PartEndEvent(index=self._open_index, part=part, next_part_kind=following.part.part_kind)


def _final_result(event: PartStartEvent, params: ModelRequestParameters) -> FinalResultEvent | None:
    """The event that tells that this part is, or ends in, the run's result; None if it is not certain."""
    part = event.part
    if isinstance(part, TextPart):
        if params.allow_text_output:
            return FinalResultEvent(tool_name=None, tool_call_id=None)
    elif isinstance(part, ToolCallPart):
        tool = params.tool_defs.get(part.tool_name)
        if tool is not None:
            if tool.kind == "output":
                return FinalResultEvent(tool_name=part.tool_name, tool_call_id=part.tool_call_id)
            if tool.defer:
                return FinalResultEvent(tool_name=None, tool_call_id=None)
    elif isinstance(part, FilePart) and params.allow_image_output and _is_image(part):
        return FinalResultEvent(tool_name=None, tool_call_id=None)
    return None


def _is_image(part: FilePart) -> bool:
    return part.content.media_type.startswith("image/")
