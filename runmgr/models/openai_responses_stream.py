"""From the events of a streamed response of OpenAI's to our parts.

https://platform.openai.com/docs/api-reference/responses-streaming is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from runmgr.messages import ModelResponseStreamEvent
from runmgr.models.openai_response import created_at, embedded_error
from runmgr.models.openai_responses_response import (
    RAW,
    args_of,
    call_of,
    files_of,
    finish_of,
    function_call,
    image_part,
    map_usage,
    returned_of,
)
from runmgr.models.openai_responses_wire import EVENT, Event, Item, Response, prune_event
from runmgr.models.remote_stream import EventReader, RemoteStream, decoded

__all__ = ("OpenAIResponsesStreamedResponse", "ResponseReader")

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class ResponseReader(EventReader[Event]):
    """Bytes of a streamed answer in, events out. What is unknown is passed over."""

    ends_with = "response.completed"

    def _read(self, event: bytes, data: bytes) -> Event | None:
        read = decoded(EVENT, data, self._model_name, "event of a response", prune_event)
        kind = read.type
        if kind == "error" or event == b"error":
            told = msgspec.json.decode(data)
            raise embedded_error(read.error or told, self._model_name)
        if kind in _ENDS:
            if read.response is not None and read.response.error:
                raise embedded_error(read.response.error, self._model_name)
            self.done = True
        return read


class OpenAIResponsesStreamedResponse(RemoteStream[Event]):
    """A response as it comes. Arguments as of ``RemoteStream``."""

    _reader_class = ResponseReader

    def _begin_state(self) -> None:
        # Calls whose arguments are coming in pieces: the text that ends them. And those of which some has come.
        self._open: dict[str, str] = {}
        self._begun: set[str] = set()
        # Some of the message that comes now has come.
        self._told = False
        self._handlers: dict[str, Callable[[Event], Iterator[ModelResponseStreamEvent]]] = {
            "response.output_text.delta": self._text,
            "response.output_text.done": self._text_done,
            "response.refusal.delta": self._refusal,
            "response.function_call_arguments.delta": self._arguments,
            "response.mcp_call_arguments.delta": self._arguments,
            "response.mcp_call_arguments.done": self._arguments_done,
            "response.code_interpreter_call_code.delta": self._code,
            "response.code_interpreter_call_code.done": self._code_done,
            "response.reasoning_summary_part.added": self._summary,
            "response.reasoning_summary_text.delta": self._summary,
            "response.reasoning_text.delta": self._thought,
            "response.image_generation_call.partial_image": self._image,
            "response.output_item.added": self._added,
            "response.output_item.done": self._done,
        }

    def _apply(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        if event.response is not None:
            self._take(event.response, ended=event.type in _ENDS)
        handler = self._handlers.get(event.type)
        if handler is not None:
            yield from handler(event)

    def _take(self, response: Response, *, ended: bool) -> None:
        self.provider_response_id = response.id or self.provider_response_id
        self._model_name = response.model or self._model_name
        if response.created_at and "timestamp" not in (self.provider_details or {}):
            self._detail("timestamp", created_at(response.created_at))
        if response.usage:
            self._usage = map_usage(response.usage)
        if ended:
            details: dict[str, Any] = {}
            self.finish_reason = finish_of(response, details)
            for name, value in details.items():
                self._detail(name, value)

    # ------------------------------------------------------------------ text and thoughts

    def _text(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        if isinstance(event.delta, str) and event.delta:
            self._told = True
            yield from self._parts_manager.handle_text_delta(
                vendor_part_id=event.item_id, content=event.delta, id=event.item_id
            )

    def _text_done(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        if event.logprobs and event.text:
            yield from self._parts_manager.handle_text_delta(
                vendor_part_id=event.item_id, content="", provider_details={"logprobs": event.logprobs}
            )

    def _refusal(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        if isinstance(event.delta, str):
            self._detail("refusal", (self.provider_details or {}).get("refusal", "") + event.delta)
        yield from ()

    def _summary(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        yield from self._parts_manager.handle_thinking_delta(
            vendor_part_id=f"{event.item_id}-{event.summary_index}",
            content=event.delta if isinstance(event.delta, str) else "",
            id=event.item_id,
        )

    def _thought(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        if isinstance(event.delta, str):
            yield from self._parts_manager.handle_thinking_delta(
                vendor_part_id=f"{event.item_id}-0",
                id=event.item_id,
                provider_details=_raw_text(event.content_index, event.delta),
            )

    # ------------------------------------------------------------------ arguments in pieces

    def _piece(self, item_id: str, text: str) -> Iterator[ModelResponseStreamEvent]:
        event = self._parts_manager.handle_tool_call_delta(vendor_part_id=item_id, args=text)
        if event is not None:
            yield event

    def _arguments(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        if isinstance(event.delta, str):
            self._begun.add(event.item_id)
            yield from self._piece(event.item_id, event.delta)

    def _arguments_done(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        yield from self._close(event.item_id, event.arguments or "{}")

    def _code(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        if isinstance(event.delta, str):
            self._begun.add(event.item_id)
            yield from self._piece(event.item_id, _escaped(event.delta))

    def _code_done(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        yield from self._close(event.item_id, _escaped(event.code or ""))

    def _close(self, item_id: str, whole: str) -> Iterator[ModelResponseStreamEvent]:
        """The end of arguments that came in pieces, or all of them where none came."""
        end = self._open.pop(item_id, None)
        if end is not None:
            if item_id not in self._begun:
                yield from self._piece(item_id, whole)
            yield from self._piece(item_id, end)

    # ------------------------------------------------------------------ items

    def _image(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        image = image_part(event.partial_image_b64 or "", event.output_format, event.item_id)
        if image is not None:
            yield self._parts_manager.handle_part(vendor_part_id=f"{event.item_id}-file", part=image)

    def _added(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        item = event.item
        if item is None:
            return
        key = item.id or ""
        manager = self._parts_manager
        if item.type == "message":
            self._told = False
            return
        if item.type == "function_call":
            if item.arguments:
                self._begun.add(key)
            yield manager.handle_part(vendor_part_id=key, part=function_call(item))
            return
        call = call_of(item, self._provider_name, begun=True)
        if call is None:
            return
        yield manager.handle_part(vendor_part_id=key, part=call)
        if item.type == "mcp_call":
            self._open[key] = "}"
            name = msgspec.json.encode(item.name).decode()
            yield from self._piece(key, f'{{"action":"call_tool","tool_name":{name},"tool_args":')
        elif item.type == "code_interpreter_call":
            self._open[key] = '"}'
            container = msgspec.json.encode(item.container_id).decode()
            yield from self._piece(key, f'{{"container_id":{container},"code":"')

    def _done(self, event: Event) -> Iterator[ModelResponseStreamEvent]:
        item = event.item
        if item is None:
            return
        key = item.id or ""
        manager = self._parts_manager
        if item.type == "reasoning":
            if item.encrypted_content:
                yield from manager.handle_thinking_delta(
                    vendor_part_id=f"{key}-0",
                    id=key,
                    signature=item.encrypted_content,
                    provider_name=self._provider_name,
                )
        elif item.type == "message":
            if not self._told:  # a server that tells a message at once
                for content in item.content or ():
                    if content.type == "output_text" and content.text:
                        yield from manager.handle_text_delta(vendor_part_id=key, content=content.text, id=key)
        elif item.type == "function_call":
            if item.arguments and key not in self._begun:
                yield from self._piece(key, item.arguments)
        elif call_of(item, self._provider_name, begun=True) is not None:
            yield from self._done_builtin(item, key)

    def _done_builtin(self, item: Item, key: str) -> Iterator[ModelResponseStreamEvent]:
        manager = self._parts_manager
        if item.type == "mcp_call":
            yield from self._close(key, item.arguments or "{}")
        elif item.type == "code_interpreter_call":
            yield from self._close(key, _escaped(item.code or ""))
        elif (args := args_of(item)) is not None:
            event = manager.handle_tool_call_delta(vendor_part_id=key, args=args)
            if event is not None:
                yield event
        for number, file in enumerate(files_of(item)):
            name = f"{key}-file" if not number else f"{key}-file-{number}"
            yield manager.handle_part(vendor_part_id=name, part=file)
        returned = returned_of(item, self._provider_name)
        yield manager.handle_part(vendor_part_id=f"{key}-return", part=returned)


def _escaped(text: str) -> str:
    """Text as it stands inside a JSON string."""
    return msgspec.json.encode(text).decode()[1:-1]


def _raw_text(index: int, delta: str) -> Callable[[dict[str, Any] | None], dict[str, Any]]:
    def update(details: dict[str, Any] | None) -> dict[str, Any]:
        texts: list[str] = list((details or {}).get(RAW, []))
        place = max(
            0, min(index, len(texts))
        )  # places follow one another; others would be a server's mistake
        if place == len(texts):
            texts.append("")
        texts[place] += delta
        return {**(details or {}), RAW: texts}

    return update
