"""Iterations over a stream.

Iterators of our own instead of async generators: a reader that stops early leaves nothing behind that trio would have to
finalise (and warn of). The connection belongs to the stream's block.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import trio
from pydantic import ValidationError

from runmgr.exceptions import ModelRetry
from runmgr.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)

if TYPE_CHECKING:
    from runmgr.agent.stream import AgentStream

__all__ = ("Iteration", "Outputs", "Responses", "Texts", "Whole")

T = TypeVar("T")


class Iteration(Generic[T]):
    """An async iterator that holds nothing open."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._ended:
            raise StopAsyncIteration
        try:
            return await self._next()
        except BaseException:
            self._ended = True
            raise

    async def _next(self) -> T:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Stop iterating. The stream itself stays where it is."""
        self._ended = True


class Groups:
    """A stream's events in groups: what came within ``debounce_by`` seconds (trio's clock) of the first news.

    Args:
        stream: where events come from.
        debounce_by: seconds; None makes every event a group.
        begun: whether there is news already: the first group may be empty then.
    """

    __slots__ = ("_begun", "_debounce_by", "_over", "_stream")

    def __init__(self, stream: AgentStream[Any, Any], debounce_by: float | None, *, begun: bool) -> None:
        self._stream = stream
        self._debounce_by = debounce_by if stream.start_pump(bool(debounce_by)) else None
        self._begun = begun
        self._over: Exception | None = None

    async def next(self) -> list[ModelResponseStreamEvent]:
        """The next group; raises ``StopAsyncIteration`` at the end, or what broke the stream off."""
        if self._over is not None:
            raise self._over
        group: list[ModelResponseStreamEvent] = []
        if self._begun:
            self._begun = False
        else:
            group.append(await anext(self._stream))
        if self._debounce_by:
            # Only the waiting is timed: nothing is lost when the time is up, as it would be within a read.
            with trio.move_on_after(self._debounce_by):
                try:
                    while True:
                        group.append(await anext(self._stream))
                except Exception as ended:  # noqa: BLE001 (raised after the group)
                    self._over = ended
        return group


class Responses(Iteration[ModelResponse]):
    """The response, again and again, as far as it has come."""

    __slots__ = ("_groups", "_stream")

    def __init__(self, stream: AgentStream[Any, Any], debounce_by: float | None) -> None:
        super().__init__()
        self._stream = stream
        self._groups: Groups | float | None = debounce_by

    async def _next(self) -> ModelResponse:
        groups = self._groups
        if not isinstance(groups, Groups):
            groups = self._groups = Groups(self._stream, groups, begun=False)
            response = self._stream.response
            if any(part.has_content() for part in response.parts):
                return response
        await groups.next()
        return self._stream.response


class Outputs(Iteration[T]):
    """The output, as far as it can be validated already, and whole at the end."""

    __slots__ = ("_last", "_responses", "_stream", "_whole")

    def __init__(self, stream: AgentStream[Any, T], debounce_by: float | None) -> None:
        super().__init__()
        self._stream = stream
        self._responses = Responses(stream, debounce_by)
        self._last: ModelResponse | None = None
        self._whole = False

    async def _next(self) -> T:
        stream = self._stream
        if self._whole:
            raise StopAsyncIteration
        async for response in self._responses:
            if stream.final_result_event is None or (
                self._last is not None and self._last.parts == response.parts
            ):
                continue
            self._last = response
            try:
                return await stream.validate_response_output(response, allow_partial=True)
            except (ValidationError, ModelRetry):
                continue  # more of it is to come
        self._whole = True
        if stream.final_result_event is None:
            raise StopAsyncIteration
        return await stream.get_output()


class Texts(Iteration[str]):
    """The text, as far as it has come, or what is new of it each time.

    Args:
        stream: of a response whose text is the output.
        debounce_by: see `Groups`.
        delta: what is new instead of the whole.
        finish: what is shown for a text.
    """

    __slots__ = ("_debounce_by", "_delta", "_finish", "_groups", "_shown", "_stream", "_text")

    def __init__(
        self,
        stream: AgentStream[Any, Any],
        debounce_by: float | None,
        *,
        delta: bool,
        finish: Callable[[str], Awaitable[str]] | None,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._debounce_by = debounce_by
        self._delta = delta
        self._finish = finish
        self._groups: Groups | None = None
        self._text = ""
        self._shown = False

    async def _next(self) -> str:
        groups = self._groups
        if groups is None:
            parts = self._stream.response.parts
            self._text = "".join(part.content for part in parts if isinstance(part, TextPart))
            groups = self._groups = Groups(self._stream, self._debounce_by, begun=bool(self._text))
        while True:
            new = "".join(map(_text_of, await groups.next()))
            if new or (self._text and not self._shown):
                break
        self._text = new if self._delta and self._shown else self._text + new
        self._shown = True
        return self._text if self._finish is None else await self._finish(self._text)


def _text_of(event: ModelResponseStreamEvent) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


class Whole(Iteration[T]):
    """What an iteration gives, then ``last`` if there is one; ``done`` is awaited when it has come to its end."""

    __slots__ = ("_done", "_last", "_source")

    def __init__(
        self,
        source: AsyncIterator[T] | None,
        done: Callable[[], Awaitable[None]],
        last: Callable[[], T] | None = None,
    ) -> None:
        super().__init__()
        self._source = source
        self._done = done
        self._last = last

    async def _next(self) -> T:
        if self._source is not None:
            try:
                return await anext(self._source)
            except StopAsyncIteration:
                self._source = None
        last, self._last = self._last, None
        if last is not None:
            return last()
        await self._done()
        raise StopAsyncIteration
