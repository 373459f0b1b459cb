"""``Agent.run_stream_sync``: a stream for programs that are not async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import trio

from runmgr.agent.streamed import StreamedRunResult
from runmgr.concurrency import LoopThread
from runmgr.exceptions import UserError
from runmgr.messages import ModelMessage, ModelResponse
from runmgr.output import OutputDataT
from runmgr.tools.types import AgentDepsT
from runmgr.usage import RunUsage

__all__ = ("StreamedRunResultSync",)

T = TypeVar("T")
_END: Any = object()


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
        self._loop = LoopThread(opened, name="runmgr stream")
        self._result = self._loop.value

    def close(self) -> None:
        """Close the stream, wherever it stands. Idempotent."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.close(error)

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
