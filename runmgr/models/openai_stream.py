"""From the events of a streamed chat completion to our parts.

``ChunkReader`` turns bytes into chunks and knows when an answer is whole; ``OpenAIStreamedResponse`` turns chunks into parts. Only
its outermost loop awaits.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

import msgspec
import trio

from runmgr.exceptions import MalformedResponseError
from runmgr.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartStartEvent,
    ThinkingPart,
    now_utc,
)
from runmgr.models.http import HttpError, ReplyStream
from runmgr.models.http.failures import api_error
from runmgr.models.http.sse import EventDecoder
from runmgr.models.openai_response import FINISH_REASONS, created_at, embedded_error, thinking_of
from runmgr.models.openai_usage import map_usage
from runmgr.models.openai_wire import Chunk, Delta, WireToolCall, decode_chunk, text_of
from runmgr.models.stream import StreamedResponse
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.records.definitions import ModelRequestParameters

__all__ = ("ChunkReader", "OpenAIStreamedResponse")

_LAST_WORDS = 1.0
"""Seconds to wait for the end of the body after the answer's own end, so that the connection can be used again."""


class ChunkReader:
    """Bytes of a streamed answer in, chunks out.

    Args:
        model_name: for errors.
        thinking_field: a field of deltas, beside those that ``Delta`` has, that holds thoughts.
    """

    def __init__(self, model_name: str, thinking_field: str | None = None) -> None:
        self._model_name = model_name
        self._field = thinking_field
        self._decoder = EventDecoder()
        self.done = False
        self.finished = False

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that are complete now. What follows ``[DONE]`` is ignored.

        Raises:
            MalformedResponseError: an event is no chunk.
            ModelHTTPError: the event is an error.
        """
        try:
            events = self._decoder.feed(data)
        except HttpError as error:
            raise api_error(error, self._model_name) from None
        return self._chunks(events)

    def end(self) -> list[Chunk]:
        """What the end of the body completes.

        Raises:
            MalformedResponseError: the answer did not come to its end.
        """
        chunks = self._chunks(self._decoder.end())
        if not (self.done or self.finished):
            raise MalformedResponseError(
                self._model_name, "the stream ended without finish_reason or [DONE]: the answer was cut short"
            )
        return chunks

    def _chunks(self, events: list[tuple[bytes, bytes]]) -> list[Chunk]:
        chunks: list[Chunk] = []
        for event, data in events:
            if self.done:
                break
            if data.startswith(b"[DONE]"):
                self.done = True
                break
            if not data.strip():
                continue
            try:
                chunk = decode_chunk(data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                shown = data[:500].decode("utf-8", "replace")
                raise MalformedResponseError(
                    self._model_name, f"an event of the stream is no chunk ({error}): {shown!r}"
                ) from None
            if chunk.error:
                raise embedded_error(chunk.error, self._model_name)
            if event == b"error":
                raise embedded_error(msgspec.json.decode(data), self._model_name)
            if chunk.choices and (first := chunk.choices[0]):
                if first.finish_reason:
                    self.finished = True
                if self._field is not None and first.delta is not None:
                    _extra_thoughts(first.delta, data, self._field)
            chunks.append(chunk)
        return chunks


def _extra_thoughts(delta: Delta, data: bytes, name: str) -> None:
    value = msgspec.json.decode(data)["choices"][0]["delta"].get(name)
    if isinstance(value, str) and value:
        delta.thoughts = (name, value)


class OpenAIStreamedResponse(StreamedResponse):
    """A chat completion as it comes.

    Args:
        model_request_parameters: what was asked for.
        answer: the open stream.
        model_name: the model that was asked.
        profile: says how thoughts look.
        provider_name: goes into the response.
        provider_url: goes into the response.
    """

    def __init__(
        self,
        model_request_parameters: ModelRequestParameters,
        answer: ReplyStream,
        *,
        model_name: str,
        profile: OpenAIModelProfile,
        provider_name: str,
        provider_url: str,
    ) -> None:
        super().__init__(model_request_parameters)
        self._answer = answer
        self._asked = model_name
        self._model_name = model_name
        self._profile = profile
        self._provider_name = provider_name
        self._provider_url = provider_url
        self._timestamp = now_utc()
        self._reader = ChunkReader(model_name, profile.openai_chat_thinking_field)
        self._waiting: list[Chunk] = []
        self._ready: Sequence[ModelResponseStreamEvent] = ()
        self._calls: dict[int | str, str] = {}
        self._last_call: int | str = 0

    @property
    def model_name(self) -> str:
        """The model that answers, as the provider names it."""
        return self._model_name

    @property
    def provider_name(self) -> str:
        """The provider."""
        return self._provider_name

    @property
    def provider_url(self) -> str:
        """The provider's base URL."""
        return self._provider_url

    @property
    def timestamp(self) -> datetime:
        """When the response began."""
        return self._timestamp

    async def open(self) -> None:
        """Wait for the first chunk, so that an answer that fails at once fails here, where it can still be asked again.

        Raises:
            ModelAPIError: the answer failed, or is empty.
        """
        while not self._waiting:
            if (data := await self._receive()) is None:
                self._waiting = self._reader.end()
                break
            self._waiting = self._reader.feed(data)
            if self._reader.done:
                break
        if not self._waiting:
            raise MalformedResponseError(self._asked, "the stream ended without content or tool calls")

    def whole(self, response: ModelResponse) -> None:
        """Take over a whole response, from a server that did not stream although it was asked to."""
        self._model_name = response.model_name or self._model_name
        self._usage = response.usage
        self.finish_reason = response.finish_reason
        self.provider_response_id = response.provider_response_id
        self.provider_details = response.provider_details
        self._reader.done = True
        manager = self._parts_manager
        self._ready = [manager.handle_part(vendor_part_id=None, part=part) for part in response.parts]

    async def _receive(self) -> bytes | None:
        try:
            return await self._answer.receive() or None
        except HttpError as error:
            raise api_error(error, self._asked) from error

    async def _get_event_iterator(self) -> AsyncGenerator[ModelResponseStreamEvent]:
        for event in self._ready:
            yield event
        reader = self._reader
        waiting = self._waiting
        while True:
            for chunk in waiting:
                for event in self._apply(chunk):
                    yield event
            if reader.done:
                break
            if (data := await self._receive()) is None:
                for chunk in reader.end():
                    for event in self._apply(chunk):
                        yield event
                return
            waiting = reader.feed(data)
        with trio.move_on_after(_LAST_WORDS):
            await self._last_words()

    async def _last_words(self) -> None:
        try:
            while await self._answer.receive():
                pass
        except HttpError:
            pass  # the answer is whole; the connection is not used again

    # ------------------------------------------------------------------ pure

    def _apply(self, chunk: Chunk) -> Sequence[ModelResponseStreamEvent]:
        """The events that a chunk causes; everything but parts is kept here."""
        if chunk.usage:
            # Servers that tell usage along the way tell what it is so far.
            self._usage = map_usage(chunk.usage)
        if chunk.id:
            self.provider_response_id = chunk.id
        if chunk.model:
            self._model_name = chunk.model
        if chunk.created and (self.provider_details is None or "timestamp" not in self.provider_details):
            self._detail("timestamp", created_at(chunk.created))
        if not chunk.choices:
            return ()
        choice = chunk.choices[0]
        if choice.logprobs is not None and choice.logprobs.content:
            known = (self.provider_details or {}).get("logprobs", [])
            self._detail("logprobs", [*known, *choice.logprobs.content])
        if choice.finish_reason:
            self.finish_reason = FINISH_REASONS.get(choice.finish_reason)
            self._detail("finish_reason", choice.finish_reason)
        return () if choice.delta is None else self._parts(choice.delta)

    def _detail(self, name: str, value: Any) -> None:
        # A new dict: responses that `get` gave out keep theirs.
        self.provider_details = {**(self.provider_details or {}), name: value}

    def _parts(self, delta: Delta) -> Sequence[ModelResponseStreamEvent]:
        manager = self._parts_manager
        events: list[ModelResponseStreamEvent] = []
        thought = thinking_of(delta)
        if thought is not None:
            events.extend(
                manager.handle_thinking_delta(
                    vendor_part_id=thought[0],
                    id=thought[0],
                    content=thought[1],
                    provider_name=self._provider_name,
                )
            )
        if text := text_of(delta.content):
            for event in manager.handle_text_delta(
                vendor_part_id="content",
                content=text,
                thinking_tags=self._profile.thinking_tags,
                ignore_leading_whitespace=self._profile.ignore_streamed_leading_whitespace,
            ):
                if isinstance(event, PartStartEvent) and isinstance(event.part, ThinkingPart):
                    event.part.id = "content"
                    event.part.provider_name = self._provider_name
                events.append(event)
        if delta.refusal:
            before = (self.provider_details or {}).get("refusal", "")
            self._detail("refusal", before + delta.refusal)
        if delta.tool_calls:
            events.extend(event for call in delta.tool_calls if (event := self._call(call)) is not None)
        return events

    def _call(self, call: WireToolCall) -> ModelResponseStreamEvent | None:
        name = None if call.function is None else call.function.name or None
        arguments = None if call.function is None else call.function.arguments
        key: int | str = self._last_call
        if call.index is not None:
            key = call.index
        elif call.id:
            key = call.id
        known = self._calls.get(key)
        if call.id and known is not None and known != call.id and name:
            key = call.id  # a server that counts every call as the first
        if call.id:
            self._calls[key] = call.id
        self._last_call = key
        return self._parts_manager.handle_tool_call_delta(
            vendor_part_id=key, tool_name=name, args=arguments, tool_call_id=call.id or None
        )
