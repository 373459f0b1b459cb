"""``CallToolsNode.stream``: the events of a turn's tools while they run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

import trio

from runmgr.agent.cancel import run_cancelled
from runmgr.agent.nodes import CallToolsNode, next_step
from runmgr.agent.respond import respond
from runmgr.agent.state import GraphAgentDeps, GraphAgentState
from runmgr.concurrency import BareNursery
from runmgr.exceptions import AgentRunError
from runmgr.graph import GraphRunContext
from runmgr.messages import HandleResponseEvent
from runmgr.output import OutputDataT
from runmgr.tools.types import AgentDepsT

if TYPE_CHECKING:
    from runmgr.agent.host import RunHost

__all__ = ("ToolEvents",)


class ToolEvents(Generic[AgentDepsT, OutputDataT]):
    """``async with node.stream(ctx) as events``: the tools run in a task of their own, while events are read.

    A tool waits where its event is not read (nothing is buffered); after the block none does.
    """

    __slots__ = ("_ctx", "_error", "_host", "_node", "_nursery", "_receive", "_scope", "_send")

    def __init__(
        self,
        node: CallToolsNode[AgentDepsT, OutputDataT],
        ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[AgentDepsT, Any]],
    ) -> None:
        self._node = node
        self._ctx = ctx
        self._error: Exception | None = None
        self._host = ctx.deps.host if ctx.deps.hosted else None
        self._nursery = BareNursery("running tools failed", wait=True)

    async def __aenter__(self) -> AsyncIterator[HandleResponseEvent]:
        node = self._node
        if node._streaming or node._next_node is not None:
            raise AgentRunError("stream() should only be called once per node")
        node._streaming = True
        nursery = await self._nursery.__aenter__()
        # Around the work only: cancelling the run is no reason to cancel what the reader does besides.
        self._scope = trio.CancelScope()
        self._send, self._receive = trio.open_memory_channel[HandleResponseEvent](0)
        cancellation = self._ctx.deps.cancellation
        if cancellation is not None:
            cancellation.scopes.add(self._scope)
            if cancellation.reason is not None:
                self._scope.cancel()
        nursery.start_soon(self._work)
        return _Events(self._receive, self._raise)

    async def _work(self) -> None:
        with self._send, self._scope:
            try:
                self._node._next_node = next_step(
                    await respond(self._node, self._ctx, _Live(self._send, self._host))
                )
            except Exception as error:  # noqa: BLE001 (raised in the block, bare)
                self._error = error

    def _raise(self) -> None:
        """Raise what ended the work, if anything did."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        cancellation = self._ctx.deps.cancellation
        if self._node._next_node is None and cancellation is not None and cancellation.reason is not None:
            raise run_cancelled(self._ctx)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receive.close()
        try:
            await self._nursery.__aexit__(kind, error, trace)
        finally:
            self._node._streaming = False
            if (cancellation := self._ctx.deps.cancellation) is not None:
                cancellation.scopes.discard(self._scope)
        if error is None:
            self._raise()


class _Live:
    """`Emit` into a channel."""

    __slots__ = ("_host", "_send")
    from_tasks = True

    def __init__(self, send: trio.MemorySendChannel[HandleResponseEvent], host: RunHost | None) -> None:
        self._send = send
        self._host = host

    async def __call__(self, event: HandleResponseEvent, /) -> None:
        host = self._host
        if host is not None and host.wants_events:
            host.emit(event)
        with suppress(trio.BrokenResourceError):  # nobody reads any more, but the tools go on
            await self._send.send(event)


class _Events:
    """The events, and at their end the error that ended them."""

    __slots__ = ("_raise", "_receive")

    def __init__(self, receive: trio.MemoryReceiveChannel[HandleResponseEvent], raise_error: Any) -> None:
        self._receive = receive
        self._raise = raise_error

    def __aiter__(self) -> AsyncIterator[HandleResponseEvent]:
        return self

    async def __anext__(self) -> HandleResponseEvent:
        try:
            return await self._receive.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            self._raise()
            raise StopAsyncIteration from None
