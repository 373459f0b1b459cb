"""What every agent can do, on top of ``iter``: run, run in sync code, stream."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, cast, overload

from typing_extensions import TypeIs, TypeVar, Unpack

from runmgr.agent.nodes import AgentNode, CallToolsNode, ModelRequestNode, UserPromptNode
from runmgr.agent.options import UNSET, AgentMetadata, OptionsBesideDeps, RunOptions, Unset
from runmgr.agent.outcome import AgentRunResult
from runmgr.agent.prompts import Instructions
from runmgr.agent.result import FinalResult
from runmgr.agent.run import AgentRun
from runmgr.agent.state import build_run_context
from runmgr.exceptions import UserError
from runmgr.graph import End
from runmgr.messages import AgentStreamEvent, UserContent
from runmgr.output import OutputDataT, OutputSpec
from runmgr.tools.context import RunContext
from runmgr.tools.tool import Tool
from runmgr.tools.types import AgentDepsT, ToolFuncEither
from runmgr.toolsets.abstract import AbstractToolset
from runmgr.toolsets.manager import sequential_tool_calls

if TYPE_CHECKING:
    from runmgr.agent.events import RunEvents
    from runmgr.agent.streamed import StreamedRunResult
    from runmgr.agent.sync_stream import StreamedRunResultSync
    from runmgr.models import KnownModelName, Model

__all__ = ("AbstractAgent", "EventStreamHandler", "RunOutputDataT")

RunOutputDataT = TypeVar("RunOutputDataT")
"""The type of one run's output, where ``output_type`` is given to the run."""
NodeDepsT = TypeVar("NodeDepsT")
NodeOutputT = TypeVar("NodeOutputT")

EventStreamHandler: TypeAlias = Callable[
    [RunContext[AgentDepsT], AsyncIterable[AgentStreamEvent]], Awaitable[None]
]
"""Gets the events of each model request and of each turn's tools, and reads as many of them as it likes."""


class AbstractAgent(ABC, Generic[AgentDepsT, OutputDataT]):
    """What every agent can do. A subclass says what it is, and how a run is iterated over and overridden."""

    # ------------------------------------------------------------------ about

    @property
    @abstractmethod
    def model(self) -> Model | KnownModelName | str | None:
        """The model that runs use unless told otherwise."""
        raise NotImplementedError

    @property
    @abstractmethod
    def name(self) -> str | None:
        """The agent's name, for logs and spans."""
        raise NotImplementedError

    @name.setter
    @abstractmethod
    def name(self, value: str | None) -> None:
        raise NotImplementedError

    @property
    @abstractmethod
    def deps_type(self) -> type:
        """The type of ``deps``; only type checkers look at it."""
        raise NotImplementedError

    @property
    @abstractmethod
    def output_type(self) -> OutputSpec[OutputDataT]:
        """What runs put out."""
        raise NotImplementedError

    @property
    @abstractmethod
    def event_stream_handler(self) -> EventStreamHandler[AgentDepsT] | None:
        """Gets the events of every run."""
        raise NotImplementedError

    @property
    @abstractmethod
    def toolsets(self) -> Sequence[AbstractToolset[AgentDepsT]]:
        """All toolsets, the agent's own functions among them, but not output tools."""
        raise NotImplementedError

    @abstractmethod
    def output_json_schema(self, output_type: OutputSpec[Any] | None = None) -> dict[str, Any]:
        """The JSON schema of the output, or of another type of output."""
        raise NotImplementedError

    # ------------------------------------------------------------------- runs

    @overload
    def iter(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, OutputDataT]]: ...

    @overload
    def iter(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[RunOutputDataT],
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, RunOutputDataT]]: ...

    @abstractmethod
    def iter(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[Any] | None = None,
        **options: Unpack[RunOptions[AgentDepsT]],
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, Any]]:
        """Start a run to drive a step at a time: ``async with agent.iter('Hi') as run: async for node in run: ...``.

        Args:
            user_prompt: what to say to the model; None goes on from ``message_history``.
            output_type: what this run puts out, instead of the agent's type.
            **options: see `RunOptions`.
        """
        raise NotImplementedError

    @overload
    async def run(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AgentRunResult[OutputDataT]: ...

    @overload
    async def run(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[RunOutputDataT],
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AgentRunResult[RunOutputDataT]: ...

    async def run(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[Any] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        **options: Unpack[RunOptions[AgentDepsT]],
    ) -> AgentRunResult[Any]:
        """Run the agent to its end.

        Everything happens in the caller's task, except that several tools of one turn run in tasks of their own.
        Cancelling leaves nothing running; the messages so far are with ``capture_run_messages``.

        Args:
            user_prompt: what to say to the model; None goes on from ``message_history``.
            output_type: what this run puts out, instead of the agent's type.
            event_stream_handler: gets the events of this run; model requests are streamed then.
            **options: see `RunOptions`.

        Raises:
            UnexpectedModelBehavior: the model gave no usable output, and retries are used up.
            UsageLimitExceeded: a limit was, or would have been, passed.
            ModelAPIError: the provider failed.
            UserError: the program made a mistake.
            Exception: whatever a tool, validator or other function of the agent raises.
        """
        if self.name is None and options.pop("infer_name", True):
            self._infer_name(inspect.currentframe())
        handler = event_stream_handler or self.event_stream_handler
        async with self._iter_for_run(user_prompt, output_type, options) as run:
            node: Any = run.next_node
            if handler is None:
                while type(node) is not End:
                    node = await run._advance(node)
            else:
                while type(node) is not End:
                    await _stream_to(handler, node, run)
                    node = await run._advance(node)
            result = run.result
        assert result is not None, "a run that is over has a result"
        return result

    def _iter_for_run(
        self, user_prompt: Any, output_type: Any, options: RunOptions[AgentDepsT]
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, Any]]:
        """`iter` for a run that nobody else gets hold of."""
        options["infer_name"] = False
        return self.iter(user_prompt, output_type=output_type, **options)

    @overload
    def run_sync(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AgentRunResult[OutputDataT]: ...

    @overload
    def run_sync(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[RunOutputDataT],
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AgentRunResult[RunOutputDataT]: ...

    def run_sync(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[Any] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        **options: Unpack[RunOptions[AgentDepsT]],
    ) -> AgentRunResult[Any]:
        """`run` for programs that are not async: within a ``trio.run`` of its own.

        Raises:
            UserError: trio is running in this thread already: ``await agent.run(...)`` there.
        """
        import trio

        if trio.lowlevel.in_trio_run():
            raise UserError(
                "agent.run_sync(...) cannot be called inside trio: it starts trio itself. Write `await agent.run(...)`"
            )

        if self.name is None and options.pop("infer_name", True):
            self._infer_name(inspect.currentframe())
        options["infer_name"] = False

        async def main() -> AgentRunResult[Any]:
            return await self.run(
                user_prompt, output_type=output_type, event_stream_handler=event_stream_handler, **options
            )

        return trio.run(main)

    @overload
    def run_stream(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AbstractAsyncContextManager[StreamedRunResult[AgentDepsT, OutputDataT]]: ...

    @overload
    def run_stream(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[RunOutputDataT],
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AbstractAsyncContextManager[StreamedRunResult[AgentDepsT, RunOutputDataT]]: ...

    def run_stream(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[Any] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        **options: Unpack[RunOptions[AgentDepsT]],
    ) -> AbstractAsyncContextManager[StreamedRunResult[AgentDepsT, Any]]:
        """Run the agent up to its output, and read that while it comes: ``async with agent.run_stream('Hi') as result``.

        The block begins when a response starts with what counts as output: text, where text is allowed, or a call of
        an output tool. That ends the run: other tool calls of the same response are left or run by ``end_strategy``.
        Leaving the block early closes the connection; what came until then, and its usage, is in the history.

        Args:
            user_prompt: see `run`, as for the rest.
            output_type: what this run puts out.
            event_stream_handler: gets the events up to the output.
            **options: see `RunOptions`.
        """
        from runmgr.agent.streamed import open_stream

        if self.name is None and options.pop("infer_name", True):
            self._infer_name(inspect.currentframe())
        return open_stream(
            self._iter_for_run(user_prompt, output_type, options),
            event_stream_handler or self.event_stream_handler,
        )

    @overload
    def run_stream_sync(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> StreamedRunResultSync[AgentDepsT, OutputDataT]: ...

    @overload
    def run_stream_sync(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[RunOutputDataT],
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> StreamedRunResultSync[AgentDepsT, RunOutputDataT]: ...

    def run_stream_sync(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[Any] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        **options: Unpack[RunOptions[AgentDepsT]],
    ) -> StreamedRunResultSync[AgentDepsT, Any]:
        """`run_stream` for programs that are not async: within a ``trio.run`` in a thread of its own.

        The stream is closed when it is read to its end, by ``close()``, at the end of a ``with`` block, or when it is
        garbage.
        """
        from runmgr.agent.sync_stream import StreamedRunResultSync

        if self.name is None and options.pop("infer_name", True):
            self._infer_name(inspect.currentframe())
        options["infer_name"] = False
        return StreamedRunResultSync(
            self.run_stream(
                user_prompt, output_type=output_type, event_stream_handler=event_stream_handler, **options
            )
        )

    @overload
    def run_stream_events(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> RunEvents[AgentDepsT, OutputDataT]: ...

    @overload
    def run_stream_events(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[RunOutputDataT],
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> RunEvents[AgentDepsT, RunOutputDataT]: ...

    def run_stream_events(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[Any] | None = None,
        **options: Unpack[RunOptions[AgentDepsT]],
    ) -> RunEvents[AgentDepsT, Any]:
        """Run the agent to its end, and see everything on the way: ``async for event in agent.run_stream_events('Hi')``.

        The last event holds the result. So written, the run happens in the caller's task, while the next event is asked
        for: the results of tools that run at once are told when all of them have ended, and a loop that is left early
        leaves a run behind that trio ends, with a ``ResourceWarning``. As a block it is told at once what happens, and
        leaving it early ends the run: ``async with agent.run_stream_events('Hi') as events: async for event in events``.
        The block is also the form for agents whose toolsets hold connections open, such as MCP servers, if the reader
        opens cancel scopes between events.
        """
        from runmgr.agent.events import RunEvents

        if self.name is None and options.pop("infer_name", True):
            self._infer_name(inspect.currentframe())
        return RunEvents(self._iter_for_run(user_prompt, output_type, options))

    @abstractmethod
    def override(
        self,
        *,
        name: str | Unset = UNSET,
        deps: AgentDepsT | Unset = UNSET,
        model: Model | KnownModelName | str | Unset = UNSET,
        toolsets: Sequence[AbstractToolset[AgentDepsT]] | Unset = UNSET,
        tools: Sequence[Tool[AgentDepsT] | ToolFuncEither[AgentDepsT, ...]] | Unset = UNSET,
        instructions: Instructions[AgentDepsT] | Unset = UNSET,
        metadata: AgentMetadata[AgentDepsT] | Unset = UNSET,
    ) -> AbstractContextManager[None]:
        """Replace parts of the agent within a block, for tests: they win over what runs are given, too."""
        raise NotImplementedError

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Open what the agent's toolsets need, to keep it open from run to run."""
        raise NotImplementedError

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A hex digest that is the same for agents that ask the same; see `Agent.fingerprint`."""
        raise NotImplementedError(f"{type(self).__name__} has no fingerprint: give it a `fingerprint` method")

    @staticmethod
    def sequential_tool_calls() -> AbstractContextManager[None]:
        """Run the calls of a response one after the other, in the block and in tasks that it starts."""
        return sequential_tool_calls()

    # ----------------------------------------------------------------- checks

    @staticmethod
    def is_model_request_node(
        node: AgentNode[NodeDepsT, NodeOutputT] | End[FinalResult[NodeOutputT]],
    ) -> TypeIs[ModelRequestNode[NodeDepsT, NodeOutputT]]:
        """Whether the step asks the model."""
        return isinstance(node, ModelRequestNode)

    @staticmethod
    def is_call_tools_node(
        node: AgentNode[NodeDepsT, NodeOutputT] | End[FinalResult[NodeOutputT]],
    ) -> TypeIs[CallToolsNode[NodeDepsT, NodeOutputT]]:
        """Whether the step acts on a response."""
        return isinstance(node, CallToolsNode)

    @staticmethod
    def is_user_prompt_node(
        node: AgentNode[NodeDepsT, NodeOutputT] | End[FinalResult[NodeOutputT]],
    ) -> TypeIs[UserPromptNode[NodeDepsT, NodeOutputT]]:
        """Whether the step builds the first request."""
        return isinstance(node, UserPromptNode)

    @staticmethod
    def is_end_node(
        node: AgentNode[NodeDepsT, NodeOutputT] | End[FinalResult[NodeOutputT]],
    ) -> TypeIs[End[FinalResult[NodeOutputT]]]:
        """Whether the run is over."""
        return isinstance(node, End)

    def _infer_name(self, frame: FrameType | None) -> None:
        """Take the name of the caller's variable that holds this agent.

        Args:
            frame: the frame of the method that was called.
        """
        caller = frame.f_back if frame is not None else None
        if caller is None or self.name is not None:
            return
        for variables in (caller.f_locals, caller.f_globals):
            for name, value in variables.items():
                if value is self and not name.startswith("__"):
                    if name != "self":
                        self.name = name
                    return


async def _stream_to(handler: EventStreamHandler[Any], node: Any, run: AgentRun[Any, Any]) -> None:
    if isinstance(node, (ModelRequestNode, CallToolsNode)):
        async with cast("Any", node).stream(run.ctx) as events:
            await handler(build_run_context(run.ctx), events)
