"""From the events of a streamed Anthropic message to our parts.

https://docs.claude.com/en/docs/build-with-claude/streaming is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from runmgr.messages import BuiltinToolCallPart, ModelResponseStreamEvent
from runmgr.models.anthropic_response import (
    FINISH_REASONS,
    REDACTED,
    builtin_part,
    embedded_error,
    map_usage,
)
from runmgr.models.anthropic_wire import EVENT, Block, Container, Delta, Event, Message, prune_event
from runmgr.models.remote_stream import EventReader, RemoteStream, decoded

__all__ = ("AnthropicStreamedResponse", "MessageReader")


class MessageReader(EventReader[Event]):
    """Bytes of a streamed answer in, events out. ``ping`` and what is unknown are passed over."""

    ends_with = "message_stop"

    def _read(self, event: bytes, data: bytes) -> Event | None:
        read = decoded(EVENT, data, self._model_name, "event of a message", prune_event)
        kind = read.type
        if kind == "error" or event == b"error":
            raise embedded_error(msgspec.json.decode(data), read.error, self._model_name)
        if kind == "message_stop":
            self.done = True
            return None
        if kind == "message_delta" and read.delta is not None and read.delta.stop_reason:
            self.finished = True
        return read if kind in _MEANT else None


_MEANT = frozenset({
    "message_start",
    "message_delta",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
})  # fmt: skip


class AnthropicStreamedResponse(RemoteStream[Event]):
    """A message as it comes. Arguments as of ``RemoteStream``."""

    _reader_class = MessageReader

    def _begin_state(self) -> None:
        self._counts: dict[str, Any] = {}
        self._servers: dict[str, str] = {}
        # Calls of MCP servers whose arguments are coming: our form of them wraps the tool's own. True once some have come.
        self._wrapped: dict[int, bool] = {}

    def _apply(self, event: Event) -> Sequence[ModelResponseStreamEvent]:
        kind = event.type
        if kind == "content_block_delta":
            return () if event.delta is None else self._more(event.index, event.delta)
        if kind == "content_block_start":
            return () if event.content_block is None else self._begin(event.index, event.content_block)
        if kind == "content_block_stop":
            if event.index not in self._wrapped:
                return ()
            return self._args(event.index, "}" if self._wrapped.pop(event.index) else "{}}")
        if kind == "message_start":
            return () if event.message is None else self._start(event.message)
        self._count(event.usage)
        if (delta := event.delta) is not None:
            self._container(delta.container)
            self._stop(delta.stop_reason)
        return ()

    def _start(self, message: Message) -> Sequence[ModelResponseStreamEvent]:
        self.provider_response_id = message.id or self.provider_response_id
        self._model_name = message.model or self._model_name
        self._count(message.usage)
        self._container(message.container)
        self._stop(message.stop_reason)
        # A turn that goes on after code was run may begin with blocks that are whole; those that stream count from 0.
        return [
            event
            for number, block in enumerate(message.content or ())
            for event in self._begin(-1 - number, block)
        ]

    def _stop(self, reason: str | None) -> None:
        if reason:
            self.finish_reason = FINISH_REASONS.get(reason)
            self._detail("finish_reason", reason)

    def _count(self, usage: dict[str, Any] | None) -> None:
        if usage:
            # What comes later counts the whole message, and leaves out what it has not counted again.
            self._counts |= {name: value for name, value in usage.items() if value is not None}
            self._usage = map_usage(self._counts)

    def _container(self, container: Container | None) -> None:
        if container is not None and container.id:
            self._detail("container_id", container.id)

    def _begin(self, index: int, block: Block) -> Sequence[ModelResponseStreamEvent]:
        manager = self._parts_manager
        kind = block.type
        if kind == "text":
            return manager.handle_text_delta(vendor_part_id=index, content=block.text) if block.text else ()
        if kind == "tool_use":
            event = manager.handle_tool_call_delta(
                vendor_part_id=index, tool_name=block.name, args=block.input or None, tool_call_id=block.id
            )
            return () if event is None else (event,)
        if kind == "thinking":
            return manager.handle_thinking_delta(
                vendor_part_id=index,
                content=block.thinking or "",
                signature=block.signature,
                provider_name=self._provider_name,
            )
        if kind == REDACTED:
            return manager.handle_thinking_delta(
                vendor_part_id=index,
                id=REDACTED,
                content="",
                signature=block.data,
                provider_name=self._provider_name,
            )
        part = builtin_part(block, self._provider_name, self._servers, begun=True)
        if part is None:
            return ()
        started = manager.handle_part(vendor_part_id=index, part=part)
        if isinstance(part, BuiltinToolCallPart) and kind == "mcp_tool_use" and part.args is None:
            self._wrapped[index] = False
            name = msgspec.json.encode(block.name).decode()
            return (
                started,
                *self._args(index, f'{{"action":"call_tool","tool_name":{name},"tool_args":'),
            )
        return (started,)

    def _more(self, index: int, delta: Delta) -> Sequence[ModelResponseStreamEvent]:
        kind = delta.type
        if kind == "text_delta":
            if not delta.text:
                return ()
            return self._parts_manager.handle_text_delta(vendor_part_id=index, content=delta.text)
        if kind == "input_json_delta":
            if delta.partial_json is None:
                return ()
            if delta.partial_json and index in self._wrapped:
                self._wrapped[index] = True
            return self._args(index, delta.partial_json)
        if kind == "thinking_delta":
            return self._parts_manager.handle_thinking_delta(
                vendor_part_id=index, content=delta.thinking or "", provider_name=self._provider_name
            )
        if kind == "signature_delta" and delta.signature:
            return self._parts_manager.handle_thinking_delta(
                vendor_part_id=index, signature=delta.signature, provider_name=self._provider_name
            )
        return ()  # citations_delta, and what is unknown

    def _args(self, index: int, text: str) -> Sequence[ModelResponseStreamEvent]:
        event = self._parts_manager.handle_tool_call_delta(vendor_part_id=index, args=text)
        return () if event is None else (event,)
