"""``Agent.run_stream_sync``: a stream for programs that are not async."""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import copy_context
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import trio

from runmgr.agent.streamed import StreamedRunResult
from runmgr.exceptions import UserError
from runmgr.messages import ModelMessage, ModelResponse
from runmgr.output import OutputDataT
from runmgr.tools.types import AgentDepsT
from runmgr.usage import RunUsage

__all__ = ("StreamedRunResultSync",)

T = TypeVar("T")
_END: Any = object()


class _Loop(Generic[T]):
    """A ``trio.run`` in a thread of its own that holds a block open and does in it, one after the other, what it is asked."""

    def __init__(self, opened: AbstractAsyncContextManager[T]) -> None:
        self._opened = opened
        self._answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._send, self._receive = trio.open_memory_channel[Callable[[], Awaitable[Any]]](1)
        self._token: trio.lowlevel.TrioToken | None = None
        context = copy_context()  # overrides and captured messages reach into the thread
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="runmgr stream", daemon=True
        )
        self._thread.start()
        self.value: T = self._answer()

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 (raised where somebody waits for it)
            self._answers.put((False, error))
        else:
            self._answers.put((True, _END))

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with self._opened as value:
            self._answers.put((True, value))
            async for work in self._receive:
                try:
                    answer = await work()
                except Exception as error:  # noqa: BLE001 (raised where somebody waits for it)
                    self._answers.put((False, error))
                else:
                    self._answers.put((True, answer))

    def _answer(self) -> Any:
        worked, answer = self._answers.get()
        if not worked:
            raise answer
        return answer

    def do(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do this in the loop, and wait for it."""
        token = self._token
        try:
            if token is None:
                raise trio.RunFinishedError
            token.run_sync_soon(self._send.send_nowait, work)
        except trio.RunFinishedError:
            raise RuntimeError("The stream is closed.") from None
        return self._answer()

    def close(self) -> None:
        """Leave the block, and wait for the thread to end."""
        token, self._token = self._token, None
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._send.close)
            if threading.current_thread() is not self._thread:  # the garbage collector runs anywhere
                self._thread.join()


class StreamedRunResultSync(Generic[AgentDepsT, OutputDataT]):
    """A `StreamedRunResult` whose methods block.

    Args:
        opened: the block of ``run_stream``.

    Raises:
        UserError: called inside trio.
        Exception: whatever happens before the output begins.
    """

    def __init__(
        self, opened: AbstractAsyncContextManager[StreamedRunResult[AgentDepsT, OutputDataT]]
    ) -> None:
        if trio.lowlevel.in_trio_run():
            raise UserError(
                "run_stream_sync(...) blocks, and was called inside trio; there it is: async with agent.run_stream(...)"
            )
        self._loop = _Loop(opened)
        self._result = self._loop.value

    def close(self) -> None:
        """Close the stream, wherever it stands. Idempotent."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        loop = getattr(self, "_loop", None)
        if loop is not None:
            loop.close()

    def _iterate(self, stream: AsyncIterator[T]) -> Iterator[T]:
        async def step() -> T:
            return await anext(stream, _END)

        while (item := self._loop.do(step)) is not _END:
            yield item

    # The rest is `StreamedRunResult`'s; see there.

    def all_messages(self, *, output_tool_return_content: str | None = None) -> list[ModelMessage]:
        """The whole history."""
        return self._result.all_messages(output_tool_return_content=output_tool_return_content)

    def all_messages_json(self, *, output_tool_return_content: str | None = None) -> bytes:
        """`all_messages` as JSON."""
        return self._result.all_messages_json(output_tool_return_content=output_tool_return_content)

    def new_messages(self, *, output_tool_return_content: str | None = None) -> list[ModelMessage]:
        """The messages of this run."""
        return self._result.new_messages(output_tool_return_content=output_tool_return_content)

    def new_messages_json(self, *, output_tool_return_content: str | None = None) -> bytes:
        """`new_messages` as JSON."""
        return self._result.new_messages_json(output_tool_return_content=output_tool_return_content)

    def stream_output(self, *, debounce_by: float | None = 0.1) -> Iterator[OutputDataT]:
        """The output, as far as it can be validated already, and whole at the end."""
        return self._iterate(self._result.stream_output(debounce_by=debounce_by))

    def stream_text(self, *, delta: bool = False, debounce_by: float | None = 0.1) -> Iterator[str]:
        """The text, as far as it has come."""
        return self._iterate(self._result.stream_text(delta=delta, debounce_by=debounce_by))

    def stream_responses(self, *, debounce_by: float | None = 0.1) -> Iterator[tuple[ModelResponse, bool]]:
        """The response, as far as it has come, and whether this is the last time."""
        return self._iterate(self._result.stream_responses(debounce_by=debounce_by))

    def get_output(self) -> OutputDataT:
        """Read the response to its end and give the output."""
        return self._loop.do(self._result.get_output)

    def validate_response_output(self, message: ModelResponse, *, allow_partial: bool = False) -> OutputDataT:
        """The output of a response that `stream_responses` gave."""

        async def validate() -> OutputDataT:
            return await self._result.validate_response_output(message, allow_partial=allow_partial)

        return self._loop.do(validate)

    @property
    def response(self) -> ModelResponse:
        """The response as far as it has come."""
        return self._result.response

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The run's metadata."""
        return self._result.metadata

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._result.run_id

    @property
    def is_complete(self) -> bool:
        """Whether the output has been read to its end."""
        return self._result.is_complete

    def usage(self) -> RunUsage:
        """What the run used so far."""
        return self._result.usage()

    def timestamp(self) -> datetime:
        """When the response began."""
        return self._result.timestamp()

    def __repr__(self) -> str:
        return f"<StreamedRunResultSync of {self._result!r}>"
