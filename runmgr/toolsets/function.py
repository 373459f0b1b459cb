"""Tools made of functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast, overload

import trio
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import override

from runmgr.exceptions import ModelRetry, UserError
from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.jsonschema import GenerateToolJsonSchema
from runmgr.tools.tool import Tool
from runmgr.tools.types import AgentDepsT, DocstringFormat, ToolFuncEither, ToolParams, ToolPrepareFunc
from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool

__all__ = ("FunctionToolset", "FunctionToolsetTool")


_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])


class _CallFunc(Protocol):
    async def __call__(self, args_dict: dict[str, Any], ctx: RunContext[Any], /) -> Any: ...


@dataclass(kw_only=True)
class FunctionToolsetTool(ToolsetTool[AgentDepsT]):
    """A tool of a ``FunctionToolset``.

    Args:
        call_func: calls the function with validated arguments.
        is_async: whether the function is async.
        timeout: seconds that one execution may take.
        idempotent: see ``Tool``.
    """

    call_func: _CallFunc
    is_async: bool
    timeout: float | None = None
    idempotent: bool | None = None


class FunctionToolset(AbstractToolset[AgentDepsT]):
    """Tools made of functions, listed or added one by one, also while a run is on.

    Args:
        tools: functions or ``Tool`` objects.
        max_retries: failures in a row before the run fails, for tools that do not say.
        timeout: seconds that one execution may take, for tools that do not say.
        docstring_format: see ``Tool``; this and the following are defaults for functions added here.
        require_parameter_descriptions: see ``Tool``.
        schema_generator: see ``Tool``.
        strict: see ``Tool``.
        sequential: see ``Tool``.
        requires_approval: see ``Tool``.
        metadata: merged into that of every tool, which has the last word.
        id: a name that is unique among the agent's toolsets.

    Raises:
        UserError: two tools have the same name, or a function's signature cannot be a tool's.
    """

    tools: dict[str, Tool[Any]]
    max_retries: int
    timeout: float | None

    def __init__(
        self,
        tools: Sequence[Tool[AgentDepsT] | ToolFuncEither[AgentDepsT, ...]] = (),
        *,
        max_retries: int = 1,
        timeout: float | None = None,
        docstring_format: DocstringFormat = "auto",
        require_parameter_descriptions: bool = False,
        schema_generator: type[GenerateJsonSchema] = GenerateToolJsonSchema,
        strict: bool | None = None,
        sequential: bool = False,
        requires_approval: bool = False,
        metadata: dict[str, Any] | None = None,
        id: str | None = None,
    ) -> None:
        self.tools = {}
        self.max_retries = max_retries
        self.timeout = timeout
        self.docstring_format: DocstringFormat = docstring_format
        self.require_parameter_descriptions = require_parameter_descriptions
        self.schema_generator = schema_generator
        self.strict = strict
        self.sequential = sequential
        self.requires_approval = requires_approval
        self.metadata = metadata
        self._id = id
        self._static: dict[str, ToolsetTool[AgentDepsT]] | None = None
        for tool in tools:
            if isinstance(tool, Tool):
                self.add_tool(cast("Tool[AgentDepsT]", tool))
            else:
                self.add_function(tool)

    @property
    @override
    def id(self) -> str | None:
        return self._id

    @overload
    def tool(self, func: _FunctionT, /) -> _FunctionT: ...

    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        retries: int | None = None,
        prepare: ToolPrepareFunc[AgentDepsT] | None = None,
        docstring_format: DocstringFormat | None = None,
        require_parameter_descriptions: bool | None = None,
        schema_generator: type[GenerateJsonSchema] | None = None,
        strict: bool | None = None,
        sequential: bool | None = None,
        requires_approval: bool | None = None,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> Callable[[_FunctionT], _FunctionT]: ...

    def tool(
        self,
        func: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        retries: int | None = None,
        prepare: ToolPrepareFunc[AgentDepsT] | None = None,
        docstring_format: DocstringFormat | None = None,
        require_parameter_descriptions: bool | None = None,
        schema_generator: type[GenerateJsonSchema] | None = None,
        strict: bool | None = None,
        sequential: bool | None = None,
        requires_approval: bool | None = None,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> Any:
        """Decorate a function, with or without ``RunContext`` first, to add it as a tool.

        The function itself stays as it is. Arguments are those of ``add_function``.
        """

        def add(function: Callable[..., Any]) -> Any:
            self.add_function(
                function,
                name=name,
                description=description,
                retries=retries,
                prepare=prepare,
                docstring_format=docstring_format,
                require_parameter_descriptions=require_parameter_descriptions,
                schema_generator=schema_generator,
                strict=strict,
                sequential=sequential,
                requires_approval=requires_approval,
                metadata=metadata,
                timeout=timeout,
                idempotent=idempotent,
            )
            return function

        return add if func is None else add(func)

    def add_function(
        self,
        func: ToolFuncEither[AgentDepsT, ToolParams],
        takes_ctx: bool | None = None,
        name: str | None = None,
        description: str | None = None,
        retries: int | None = None,
        prepare: ToolPrepareFunc[AgentDepsT] | None = None,
        docstring_format: DocstringFormat | None = None,
        require_parameter_descriptions: bool | None = None,
        schema_generator: type[GenerateJsonSchema] | None = None,
        strict: bool | None = None,
        sequential: bool | None = None,
        requires_approval: bool | None = None,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
        *,
        idempotent: bool | None = None,
    ) -> None:
        """Add a function as a tool. None takes the toolset's default.

        Args:
            func: see ``Tool`` for this and the rest.
            takes_ctx: whether its first argument is ``RunContext``; None looks at the annotation.
            name: by default the function's.
            description: by default from the docstring.
            retries: failures in a row before the run fails.
            prepare: changes the definition before each request.
            docstring_format: how the docstring is written.
            require_parameter_descriptions: refuse undescribed parameters.
            schema_generator: makes the JSON schema.
            strict: ask the provider to enforce the schema.
            sequential: never run beside other calls.
            requires_approval: a person must approve each call.
            metadata: for you; never sent.
            timeout: seconds that one execution may take.
            idempotent: a resumed run may repeat it without asking.

        Raises:
            UserError: the name is taken, or the signature cannot be a tool's.
        """
        self.add_tool(
            Tool[AgentDepsT](
                func,
                takes_ctx=takes_ctx,
                max_retries=self.max_retries if retries is None else retries,
                name=name,
                description=description,
                prepare=prepare,
                docstring_format=self.docstring_format if docstring_format is None else docstring_format,
                require_parameter_descriptions=(
                    self.require_parameter_descriptions
                    if require_parameter_descriptions is None
                    else require_parameter_descriptions
                ),
                schema_generator=schema_generator or self.schema_generator,
                strict=self.strict if strict is None else strict,
                sequential=self.sequential if sequential is None else sequential,
                requires_approval=self.requires_approval if requires_approval is None else requires_approval,
                metadata=metadata,
                timeout=timeout,
                idempotent=idempotent,
            )
        )

    def add_tool(self, tool: Tool[AgentDepsT]) -> None:
        """Add a tool; from the next model request on the model sees it.

        Raises:
            UserError: the name is taken.
        """
        if tool.name in self.tools:
            raise UserError(f"Tool name conflicts with existing tool: {tool.name!r}")
        self.tools[tool.name] = tool
        self._static = None

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        static = self.static_tools()
        if static is not None:
            return dict(static)
        tools: dict[str, ToolsetTool[AgentDepsT]] = {}
        for name, tool in list(self.tools.items()):
            own = ctx
            if _is_dynamic(tool):
                own = ctx.copied()
                own.tool_name = name
                own.retry = ctx.retries.get(name, 0)
                own.max_retries = self._max_retries(tool)
            tool_def = await tool.prepare_tool_def(own)
            if tool_def is None:
                continue
            new = tool_def.name
            if new in tools or (new != name and new in self.tools):
                raise UserError(f"Renaming tool {name!r} to {new!r} conflicts with existing tool.")
            tools[new] = self._toolset_tool(tool, tool_def)
        return tools

    @override
    def static_tools(self) -> dict[str, ToolsetTool[AgentDepsT]] | None:
        static = self._static
        if static is None and type(self).get_tools is FunctionToolset.get_tools:
            if any(_is_dynamic(tool) for tool in self.tools.values()):
                return None
            static = self._static = {
                name: self._toolset_tool(tool, tool.tool_def) for name, tool in self.tools.items()
            }
        return static

    def _max_retries(self, tool: Tool[AgentDepsT]) -> int:
        return self.max_retries if tool.max_retries is None else tool.max_retries

    def _toolset_tool(
        self, tool: Tool[AgentDepsT], tool_def: ToolDefinition
    ) -> FunctionToolsetTool[AgentDepsT]:
        schema = tool.function_schema
        if self.metadata:
            tool_def = replace(tool_def, metadata={**self.metadata, **(tool_def.metadata or {})})
        timeout = self.timeout if tool.timeout is None else tool.timeout
        plain = timeout is None and type(self).call_tool is FunctionToolset.call_tool
        return FunctionToolsetTool(
            toolset=self,
            tool_def=tool_def,
            max_retries=self._max_retries(tool),
            args_validator=schema.validator,
            call_func=schema.call,
            is_async=schema.is_async,
            timeout=timeout,
            idempotent=tool.idempotent,
            direct=schema.direct if plain else None,
        )

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        if not isinstance(tool, FunctionToolsetTool):
            raise TypeError(f"{self.label} was handed a tool that it did not give: {tool!r}")
        timeout = tool.timeout
        if timeout is None:
            return await tool.call_func(tool_args, ctx)
        with trio.move_on_after(timeout):
            return await tool.call_func(tool_args, ctx)
        raise ModelRetry(f"Timed out after {timeout} seconds.")


def _is_dynamic(tool: Tool[Any]) -> bool:
    """Whether a tool's definition must be asked for before each request."""
    return tool.prepare is not None or type(tool).prepare_tool_def is not Tool.prepare_tool_def
