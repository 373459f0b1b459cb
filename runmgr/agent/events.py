"""``Agent.run_stream_events``: everything that happens in a run, as one stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Self, cast

import trio

from runmgr.agent.emit import StepEmit, Stepwise
from runmgr.agent.nodes import AgentNode, CallToolsNode, ModelRequestNode, next_step
from runmgr.agent.outcome import AgentRunResultEvent
from runmgr.agent.respond import respond
from runmgr.agent.run import AgentRun
from runmgr.agent.stream import ModelStream
from runmgr.concurrency import BareNursery
from runmgr.graph import End
from runmgr.messages import AgentStreamEvent
from runmgr.output import OutputDataT
from runmgr.tools.types import AgentDepsT

__all__ = ("RunEvents",)


class RunEvents(Generic[AgentDepsT, OutputDataT]):
    """A run's events; the last one holds the result.

    Iterated over as it is, the run goes on in the reader's task, while it asks for the next event: it holds no nursery
    and no scope between events, so the results of tools that run at once are told when all of them have ended. As a
    block (``async with agent.run_stream_events(...) as events``) the run has a task of its own, every event is told when
    it happens, and leaving the block ends the run.
    """

    __slots__ = ("_block", "_error", "_nursery", "_plain", "_receive")

    def __init__(self, block: AbstractAsyncContextManager[AgentRun[AgentDepsT, OutputDataT]]) -> None:
        self._block = block
        self._plain: AsyncGenerator[Any] | None = None
        self._nursery: BareNursery | None = None
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AgentStreamEvent | AgentRunResultEvent[OutputDataT]:
        if self._nursery is None:
            if self._plain is None:
                self._plain = _stepwise(self._block)
            return await anext(self._plain)
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                error, self._error = self._error, None
                raise error from None
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """End a run that is iterated over without a block, wherever it stands; ``contextlib.aclosing`` does it too."""
        if self._plain is not None:
            await self._plain.aclose()

    async def __aenter__(self) -> Self:
        self._nursery = BareNursery("a run failed")
        nursery = await self._nursery.__aenter__()
        send, self._receive = trio.open_memory_channel[Any](0)
        nursery.start_soon(self._work, send)
        return self

    async def _work(self, send: trio.MemorySendChannel[Any]) -> None:
        try:
            with send:
                async with self._block as run:
                    while not isinstance(node := cast("AgentNode[Any, Any] | End[Any]", run.next_node), End):
                        if isinstance(node, (ModelRequestNode, CallToolsNode)):
                            async with node.stream(run.ctx) as events:
                                async for event in events:
                                    await send.send(event)
                        await run.next(node)
                    result = run.result
                    assert result is not None, "a run that is over has a result"
                    await send.send(AgentRunResultEvent(result))
        except Exception as error:  # noqa: BLE001 (raised where the events are read)
            self._error = error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            await nursery.__aexit__(kind, error, trace)


async def _stepwise(block: AbstractAsyncContextManager[AgentRun[Any, Any]]) -> AsyncGenerator[Any]:
    """The events of a run in the reader's task.

    A function, so that a reader who forgets the iterator leaves no cycle behind: what is open is closed at once then, in
    order, and not by the next garbage collection.
    """
    async with block as run:
        while not isinstance(node := cast("AgentNode[Any, Any] | End[Any]", run.next_node), End):
            if isinstance(node, ModelRequestNode):
                async with ModelStream(node, run.ctx, helpers=False) as stream:
                    async for event in stream:
                        yield event
            elif isinstance(node, CallToolsNode):
                steps = Stepwise(respond(node, run.ctx, StepEmit()))
                try:
                    async for event in steps:
                        yield event
                except GeneratorExit:
                    steps.close()
                    raise
                node._next_node = next_step(steps.result)
            await run.next(node)
        result = run.result
        assert result is not None, "a run that is over has a result"
        yield AgentRunResultEvent(result)
