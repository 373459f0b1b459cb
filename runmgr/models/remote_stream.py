"""What all streamed answers have in common.

An ``EventReader`` turns bytes into events and knows when an answer is whole; a ``RemoteStream`` turns events into parts. Only its
outermost loop awaits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
import trio

from runmgr.exceptions import MalformedResponseError, ModelHTTPError
from runmgr.messages import ModelResponse, ModelResponseStreamEvent, now_utc
from runmgr.models.http import HttpError, ReplyStream
from runmgr.models.http.failures import api_error, kept_headers
from runmgr.models.http.headers import without_secrets
from runmgr.models.http.sse import EventDecoder
from runmgr.models.known import decode_known
from runmgr.models.stream import StreamedResponse
from runmgr.records.definitions import ModelRequestParameters

__all__ = ("EventReader", "RemoteStream", "decoded")

T = TypeVar("T")

_LAST_WORDS = 1.0
"""Seconds to wait for the end of the body after the answer's own end, so that the connection can be used again."""


class EventReader(Generic[T]):
    """Bytes of a streamed answer in, events out, wherever the bytes were cut.

    Args:
        model_name: for errors.

    Attributes:
        done: the answer came to its end; what follows is ignored.
        finished: the answer may end here.
    """

    what = "event"
    """What the API calls an event, for errors."""
    ends_with = "its last event"
    """What an answer ends with, for errors."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self._decoder = EventDecoder()
        self.done = False
        self.finished = False

    @abstractmethod
    def _read(self, event: bytes, data: bytes) -> T | None:
        """One event, or None where it means nothing to us; sets ``done`` and ``finished``.

        Raises:
            MalformedResponseError: it is none.
            ModelHTTPError: it is an error.
        """

    def feed(self, data: bytes) -> list[T]:
        """The events that are complete now.

        Raises:
            MalformedResponseError: an event is not what the API sends.
            ModelHTTPError: an event is an error.
        """
        try:
            events = self._decoder.feed(data)
        except HttpError as error:
            raise api_error(error, self._model_name) from None
        return self._events(events)

    def end(self) -> list[T]:
        """What the end of the body completes.

        Raises:
            MalformedResponseError: the answer did not come to its end.
        """
        events = self._events(self._decoder.end())
        if not (self.done or self.finished):
            raise MalformedResponseError(
                self._model_name, f"the stream ended without {self.ends_with}: the answer was cut short"
            )
        return events

    def _events(self, pairs: list[tuple[bytes, bytes]]) -> list[T]:
        events: list[T] = []
        for event, data in pairs:
            if self.done:
                break
            if data.startswith(b"[DONE]"):
                self.done = True
                break
            if data.strip() and (read := self._read(event, data)) is not None:
                events.append(read)
        return events


def decoded(
    decoder: msgspec.json.Decoder[T],
    data: bytes,
    model_name: str,
    what: str,
    prune: Callable[[Any], None] | None = None,
) -> T:
    """One event's data; ``prune`` as of ``decode_known``.

    Raises:
        MalformedResponseError: not JSON, or of another shape than ``what``.
    """
    try:
        return decoder.decode(data) if prune is None else decode_known(decoder, data, prune)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        shown = data[:500].decode("utf-8", "replace")
        raise MalformedResponseError(
            model_name, f"an event of the stream is no {what} ({error}): {shown!r}"
        ) from None


class RemoteStream(StreamedResponse, Generic[T]):
    """An answer as it comes.

    Args:
        model_request_parameters: what was asked for.
        model_name: the model that was asked.
        provider_name: goes into the response.
        provider_url: goes into the response.

    A subclass names the ``_reader_class`` that turns bytes into its events.
    """

    _reader_class: type[EventReader[T]]

    def __init__(
        self,
        model_request_parameters: ModelRequestParameters,
        *,
        model_name: str,
        provider_name: str,
        provider_url: str,
    ) -> None:
        super().__init__(model_request_parameters)
        self._reader = self._reader_class(model_name)
        self._answer: ReplyStream | None = None
        self._secrets: tuple[bytes, ...] = ()
        self._asked = model_name
        self._model_name = model_name
        self._provider_name = provider_name
        self._provider_url = provider_url
        self._timestamp = now_utc()
        self._waiting: list[T] = []
        self._ready: Sequence[ModelResponseStreamEvent] = ()
        self._begin_state()

    def _begin_state(self) -> None:
        """Set up what ``_apply`` remembers."""

    @abstractmethod
    def _apply(self, event: T) -> Iterable[ModelResponseStreamEvent]:
        """What an event changes; everything but parts is kept here."""

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

    def _detail(self, name: str, value: Any) -> None:
        # A new dict: responses that `get` gave out keep theirs.
        self.provider_details = {**(self.provider_details or {}), name: value}

    async def open(self, answer: ReplyStream, secrets: tuple[bytes, ...] = ()) -> None:
        """Wait for the first event, so that an answer that fails at once fails here, where it can still be asked again.

        Args:
            answer: what comes.
            secrets: our own keys; cut out of each piece that repeats one.

        Raises:
            ModelAPIError: the answer failed, or is empty.
        """
        self._answer = answer
        self._secrets = secrets
        try:
            while not self._waiting:
                if (data := await self._receive(answer)) is None:
                    self._waiting = self._reader.end()
                    break
                self._waiting = self._reader.feed(data)
                if self._reader.done:
                    break
        except ModelHTTPError as error:
            error.headers = error.headers or kept_headers(answer.head)
            raise
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

    def whole_events(self, body: bytes) -> bool:
        """Take over the events of a stream that was called JSON, as some servers call theirs; False where it is none.

        Raises:
            ModelAPIError: the answer failed, or broke off.
        """
        if not body.startswith((b"data:", b"event:")):
            return False
        self._waiting = [*self._reader.feed(body), *self._reader.end()]
        return True

    async def _receive(self, answer: ReplyStream) -> bytes | None:
        try:
            data = await answer.receive()
        except HttpError as error:
            raise api_error(error, self._asked) from error
        for secret in self._secrets:
            if secret in data:
                return without_secrets(data, self._secrets)
        return data or None

    async def _get_event_iterator(self) -> AsyncGenerator[ModelResponseStreamEvent]:
        for event in self._ready:
            yield event
        answer = self._answer
        if answer is None:
            for each in self._waiting:
                for event in self._apply(each):
                    yield event
            return
        reader = self._reader
        waiting = self._waiting
        try:
            while True:
                for each in waiting:
                    for event in self._apply(each):
                        yield event
                if reader.done:
                    break
                if (data := await self._receive(answer)) is None:
                    for each in reader.end():
                        for event in self._apply(each):
                            yield event
                    return
                waiting = reader.feed(data)
        except ModelHTTPError as error:  # told within the answer; the request's id stands in its headers
            error.headers = error.headers or kept_headers(answer.head)
            raise
        with trio.move_on_after(_LAST_WORDS):
            try:
                while await answer.receive():
                    pass
            except HttpError:
                pass  # the answer is whole; the connection is not used again
