"""From the events of a streamed chat completion to our parts.

``ChunkReader`` turns bytes into chunks and knows when an answer is whole; ``OpenAIStreamedResponse`` turns chunks into parts. Only
its outermost loop awaits.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runmgr.messages import ModelResponseStreamEvent, PartStartEvent, ThinkingPart
from runmgr.models.openai_response import FINISH_REASONS, created_at, embedded_error, thinking_of
from runmgr.models.openai_usage import map_usage
from runmgr.models.openai_wire import CHUNK, Chunk, Delta, WireToolCall, text_of
from runmgr.models.remote_stream import EventReader, RemoteStream, decoded
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.records.definitions import ModelRequestParameters

__all__ = ("ChunkReader", "OpenAIStreamedResponse")


class ChunkReader(EventReader[Chunk]):
    """Bytes of a streamed answer in, chunks out.

    Args:
        model_name: for errors.
        thinking_field: a field of deltas, beside those that ``Delta`` has, that holds thoughts.
    """

    ends_with = "finish_reason or [DONE]"

    def __init__(self, model_name: str, thinking_field: str | None = None) -> None:
        super().__init__(model_name)
        self._field = thinking_field

    def _read(self, event: bytes, data: bytes) -> Chunk:
        chunk = decoded(CHUNK, data, self._model_name, "chunk")
        if chunk.error:
            raise embedded_error(chunk.error, self._model_name)
        if event == b"error":
            raise embedded_error(msgspec.json.decode(data), self._model_name)
        if chunk.choices and (first := chunk.choices[0]):
            if first.finish_reason:
                self.finished = True
            if self._field is not None and first.delta is not None:
                _extra_thoughts(first.delta, data, self._field)
        return chunk


def _extra_thoughts(delta: Delta, data: bytes, name: str) -> None:
    value = msgspec.json.decode(data)["choices"][0]["delta"].get(name)
    if isinstance(value, str) and value:
        delta.thoughts = (name, value)


class OpenAIStreamedResponse(RemoteStream[Chunk]):
    """A chat completion as it comes.

    Args:
        model_request_parameters: what was asked for.
        model_name: the model that was asked.
        profile: says how thoughts look.
        provider_name: goes into the response.
        provider_url: goes into the response.
    """

    _reader_class = ChunkReader

    def __init__(
        self,
        model_request_parameters: ModelRequestParameters,
        *,
        model_name: str,
        profile: OpenAIModelProfile,
        provider_name: str,
        provider_url: str,
    ) -> None:
        super().__init__(
            model_request_parameters,
            model_name=model_name,
            provider_name=provider_name,
            provider_url=provider_url,
        )
        self._reader = ChunkReader(model_name, profile.openai_chat_thinking_field)
        self._profile = profile
        self._calls: dict[int | str, str] = {}
        self._last_call: int | str = 0

    def _apply(self, event: Chunk) -> Sequence[ModelResponseStreamEvent]:
        chunk = event
        if chunk.usage:
            # Servers that tell usage along the way tell what it is so far.
            self._usage = map_usage(chunk.usage)
        if chunk.id:
            self.provider_response_id = chunk.id if isinstance(chunk.id, str) else str(chunk.id)
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
