"""`WrapperAgent`: a base for agents that change what another agent does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from typing_extensions import Unpack

from runmgr.agent.abstract import AbstractAgent, EventStreamHandler, RunOutputDataT
from runmgr.agent.options import UNSET, AgentMetadata, OptionsBesideDeps, RunOptions, Unset
from runmgr.agent.prompts import Instructions
from runmgr.agent.run import AgentRun
from runmgr.messages import UserContent
from runmgr.output import OutputDataT, OutputSpec
from runmgr.tools.tool import Tool
from runmgr.tools.types import AgentDepsT, ToolFuncEither
from runmgr.toolsets.abstract import AbstractToolset

if TYPE_CHECKING:
    from runmgr.models import KnownModelName, Model

__all__ = ("WrapperAgent",)


class WrapperAgent(AbstractAgent[AgentDepsT, OutputDataT]):
    """Does what the wrapped agent does; subclasses override what they change.

    Args:
        wrapped: the agent inside.
    """

    def __init__(self, wrapped: AbstractAgent[AgentDepsT, OutputDataT]) -> None:
        self.wrapped = wrapped

    @property
    def model(self) -> Model | KnownModelName | str | None:
        return self.wrapped.model

    @property
    def name(self) -> str | None:
        return self.wrapped.name

    @name.setter
    def name(self, value: str | None) -> None:
        self.wrapped.name = value

    @property
    def deps_type(self) -> type:
        return self.wrapped.deps_type

    @property
    def output_type(self) -> OutputSpec[OutputDataT]:
        return self.wrapped.output_type

    @property
    def event_stream_handler(self) -> EventStreamHandler[AgentDepsT] | None:
        return self.wrapped.event_stream_handler

    @property
    def toolsets(self) -> Sequence[AbstractToolset[AgentDepsT]]:
        return self.wrapped.toolsets

    def output_json_schema(self, output_type: OutputSpec[Any] | None = None) -> dict[str, Any]:
        return self.wrapped.output_json_schema(output_type)

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

    def iter(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[Any] | None = None,
        **options: Unpack[RunOptions[AgentDepsT]],
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, Any]]:
        return self.wrapped.iter(user_prompt, output_type=output_type, **options)  # pyright: ignore[reportCallIssue, reportArgumentType, reportUnknownVariableType]

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
        return self.wrapped.override(
            name=name,
            deps=deps,
            model=model,
            toolsets=toolsets,
            tools=tools,
            instructions=instructions,
            metadata=metadata,
        )

    def fingerprint(self) -> str:
        """The wrapped agent's, and the name of this class: what the wrapper does it cannot know."""
        told = f"{type(self).__module__}.{type(self).__qualname__}:{self.wrapped.fingerprint()}"
        return hashlib.sha256(told.encode()).hexdigest()

    async def __aenter__(self) -> Self:
        await self.wrapped.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self.wrapped.__aexit__(kind, error, trace)
