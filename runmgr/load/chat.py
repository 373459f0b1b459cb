"""Requests to an OpenAI-compatible server, timed: streamed chat completions over the pool.

Source of the format: OpenAI API reference, "Chat Completions: create" and "streaming".
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import trio

from runmgr.load.prompts import Prompts
from runmgr.load.record import Record
from runmgr.load.state import LoadState
from runmgr.load.talk import Talk
from runmgr.load.tokenizer import Tokenizer, prompt_text
from runmgr.models.http import (
    BrokenConnection,
    ConnectFailed,
    HttpError,
    HttpTimeout,
    MalformedResponse,
    PoolClient,
    Timeouts,
)
from runmgr.models.http.gather import Gather
from runmgr.models.http.sse import EventDecoder

__all__ = ("ChatTarget",)


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


class _Listener:
    """What is told of one request as it goes, and writes it down."""

    __slots__ = (
        "_events",
        "_every",
        "_now",
        "_record",
        "_start",
        "_state",
        "_text",
        "body",
        "broken",
        "done",
        "gather",
    )

    def __init__(
        self, record: Record, state: LoadState, *, every: bool, keep: bool, gather: Gather | None
    ) -> None:
        self.gather = gather
        self._record = record
        self._state = state
        self._start = state.started
        self._every = every
        self._text = record.text = [] if keep else None
        self._events = EventDecoder()
        self._now = trio.current_time
        self.body = b""
        self.broken: str | None = None
        self.done = False

    def sent(self) -> None:
        """The request goes out."""
        self._record.sent = self._now() - self._start

    def arrived(self, status: int, data: bytes) -> None:
        """Bytes of the answer. One moment for all that came in them."""
        now = self._now() - self._start
        if status != 200:
            if len(self.body) < 65_536:
                self.body += data
            return
        self._take(self._events.feed(data), now)

    def end(self) -> None:
        """The event that lacked its blank line, if any."""
        self._take(self._events.end(), self._now() - self._start)

    def _take(self, events: list[tuple[bytes, bytes]], now: float) -> None:
        record = self._record
        moments = record.moments
        before = len(moments)
        every = self._every
        for _, data in events:
            if data == b"[DONE]":
                self.done = True
                continue
            try:
                chunk = _decode(data)
            except msgspec.DecodeError as error:
                self.broken = f"an event is not a chat completion chunk: {error}"
                continue
            if chunk.choices:
                choice = chunk.choices[0]
                if choice.finish_reason is not None:
                    self.done = True
                delta = choice.delta
                if delta is None:
                    continue
                if self._text is not None and delta.content:
                    self._text.append(delta.content)
                if delta.tool_calls and record.tool_at is None:
                    record.tool_at = now
                if (
                    every
                    or delta.content
                    or delta.tool_calls
                    or delta.reasoning_content
                    or delta.reasoning
                    or delta.refusal
                ):
                    moments.append(now)
            usage = chunk.usage
            if usage is not None:
                record.input_tokens = usage.prompt_tokens
                record.output_tokens = usage.completion_tokens
                record.counted = "usage"
                if usage.prompt_tokens_details is not None:
                    record.cached_tokens = usage.prompt_tokens_details.cached_tokens
            if chunk.error is not None:
                self.broken = _message(bytes(chunk.error))
        self._state.chunks += len(moments) - before


class ChatTarget:
    """Sends chat completions to one base URL.

    Args:
        client: the server.
        prompts: what to ask.
        timeout: seconds that one request may take.
        tokenizer: counts tokens where the provider gives no usage.
        every: whether an event without content (a role alone) counts as a piece, as ``vllm bench serve`` counts.

    Attributes:
        gather: reads the answers of all; its ``run`` has to be running. None where the machine cannot.
    """

    def __init__(
        self,
        client: PoolClient,
        prompts: Prompts,
        *,
        timeout: float,
        tokenizer: Tokenizer | None = None,
        every: bool = False,
    ) -> None:
        self.gather = Gather() if Gather.available else None
        self._client = client
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._limits = Timeouts(connect=min(10.0, timeout), total=timeout)
        self._every = every

    def prepared(self, index: int) -> bytes | Talk:
        """What `send` takes; made before the request is due."""
        return self._prompts.prepared(index)

    def following(self, record: Record, prepared: bytes | Talk) -> tuple[float, Talk] | None:
        """The next turn. A conversation whose last turn failed is over."""
        if not isinstance(prepared, Talk) or record.status != "succeeded":
            return None
        think = prepared.answered("".join(record.text or ()))
        return None if think is None else (think, prepared)

    async def send(self, record: Record, prepared: bytes | Talk, state: LoadState) -> None:
        """One request. Failures are written into the record; cancelling leaves it ``cancelled``."""
        tokenizer = self._tokenizer
        if isinstance(prepared, Talk):
            body, keep, record.turn = prepared.body, True, prepared.turn
        else:
            body, keep = prepared, tokenizer is not None
        record.source = self._prompts.source(record.index)
        listener = _Listener(record, state, every=self._every, keep=keep, gather=self.gather)
        try:
            status = await self._client.timed("/chat/completions", body, listener, self._limits)
        except HttpError as error:
            record.fail(_kind(error), error.message)
        else:
            if status != 200:
                record.fail(f"http {status}", _message(listener.body))
            else:
                listener.end()
                if listener.broken is not None:
                    record.fail("malformed", listener.broken)
                elif not listener.done:
                    record.fail(
                        "malformed", "the stream ended before its end: no finish_reason and no [DONE]"
                    )
                else:
                    record.status = "succeeded"
        finally:
            record.finished = trio.current_time() - state.started
            if record.counted == "chunks" and tokenizer is not None and record.status == "succeeded":
                record.counted = "tokenizer"
                record.input_tokens = tokenizer(prompt_text(body))
                record.output_tokens = tokenizer("".join(record.text or ()))
            elif record.counted == "chunks":
                record.output_tokens = len(record.moments)


def _kind(error: HttpError) -> str:
    match error:
        case ConnectFailed():
            return "connect"
        case HttpTimeout():
            return "timeout"
        case BrokenConnection():
            return "disconnected"
        case MalformedResponse():
            return "malformed"
        case _:
            return "connection"


def _message(body: bytes) -> str:
    """What a provider's error says, at most a few hundred letters of it."""
    text = body.decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
    except ValueError:
        return text[:300] or "no body"
    for key in ("error", "message"):
        if isinstance(found, dict):
            found = cast("dict[str, Any]", found).get(key, cast("Any", found))
    return (found if isinstance(found, str) else json.dumps(found))[:300]
