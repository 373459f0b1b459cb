"""The decorators of an agent: what is added to it after it was made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from pydantic.json_schema import GenerateJsonSchema

from runmgr.agent.abstract import AbstractAgent
from runmgr.agent.prompts import SystemPromptRunner
from runmgr.output import OutputDataT, OutputValidator, OutputValidatorFunc
from runmgr.tools.context import RunContext
from runmgr.tools.jsonschema import GenerateToolJsonSchema
from runmgr.tools.types import (
    AgentDepsT,
    DocstringFormat,
    SystemPromptFunc,
    ToolPrepareFunc,
)
from runmgr.toolsets.abstract import ToolsetFunc
from runmgr.toolsets.dynamic import DynamicToolset
from runmgr.toolsets.function import FunctionToolset

__all__ = ("DecoratedAgent",)

Params = ParamSpec("Params")
ReturnedT = TypeVar("ReturnedT")
TextT = TypeVar("TextT", bound=str | Awaitable[str | None] | None)


class DecoratedAgent(AbstractAgent[AgentDepsT, OutputDataT]):
    """The part of `Agent` that decorates functions."""

    _instructions: list[str | SystemPromptFunc[AgentDepsT]]
    _system_prompt_functions: list[SystemPromptRunner[AgentDepsT]]
    _system_prompt_dynamic_functions: dict[str, SystemPromptRunner[AgentDepsT]]
    _output_validators: list[OutputValidator[AgentDepsT, OutputDataT]]
    _function_toolset: FunctionToolset[AgentDepsT]
    _dynamic_toolsets: list[DynamicToolset[AgentDepsT]]

    def _changed(self) -> None:
        """Forget what was worked out: the agent is another one now."""
        raise NotImplementedError

    @overload
    def instructions(
        self, func: Callable[[RunContext[AgentDepsT]], TextT], /
    ) -> Callable[[RunContext[AgentDepsT]], TextT]: ...

    @overload
    def instructions(self, func: Callable[[], TextT], /) -> Callable[[], TextT]: ...

    @overload
    def instructions(self, /) -> Callable[[SystemPromptFunc[AgentDepsT]], SystemPromptFunc[AgentDepsT]]: ...

    def instructions(self, func: Any = None, /) -> Any:
        """Decorate a function, with or without ``RunContext``, that makes a part of the instructions of each request."""

        def add(function: SystemPromptFunc[AgentDepsT]) -> SystemPromptFunc[AgentDepsT]:
            self._instructions.append(function)
            self._changed()
            return function

        return add if func is None else add(func)

    @overload
    def system_prompt(
        self, func: Callable[[RunContext[AgentDepsT]], TextT], /
    ) -> Callable[[RunContext[AgentDepsT]], TextT]: ...

    @overload
    def system_prompt(self, func: Callable[[], TextT], /) -> Callable[[], TextT]: ...

    @overload
    def system_prompt(
        self, /, *, dynamic: bool = False
    ) -> Callable[[SystemPromptFunc[AgentDepsT]], SystemPromptFunc[AgentDepsT]]: ...

    def system_prompt(self, func: Any = None, /, *, dynamic: bool = False) -> Any:
        """Decorate a function, with or without ``RunContext``, that makes a system prompt.

        Args:
            func: asked when a run starts without a history.
            dynamic: ask again when a run continues from a history that has this prompt.
        """

        def add(function: SystemPromptFunc[AgentDepsT]) -> SystemPromptFunc[AgentDepsT]:
            runner = SystemPromptRunner[AgentDepsT](function, dynamic=dynamic)
            self._system_prompt_functions.append(runner)
            if dynamic:
                self._system_prompt_dynamic_functions[runner.ref] = runner
            self._changed()
            return function

        return add if func is None else add(func)

    def output_validator(
        self, func: OutputValidatorFunc[AgentDepsT, OutputDataT], /
    ) -> OutputValidatorFunc[AgentDepsT, OutputDataT]:
        """Decorate a function that sees each output before it is the result; it returns the output or raises ``ModelRetry``.

        With ``RunContext`` first or without; several run in the order in which they were added. Sync ones are called in
        a worker thread.
        """
        self._output_validators.append(OutputValidator[AgentDepsT, OutputDataT](func))
        self._changed()
        return func

    @overload
    def tool(
        self, func: Callable[Concatenate[RunContext[AgentDepsT], Params], ReturnedT], /
    ) -> Callable[Concatenate[RunContext[AgentDepsT], Params], ReturnedT]: ...

    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        retries: int | None = None,
        prepare: ToolPrepareFunc[AgentDepsT] | None = None,
        docstring_format: DocstringFormat = "auto",
        require_parameter_descriptions: bool = False,
        schema_generator: type[GenerateJsonSchema] = GenerateToolJsonSchema,
        strict: bool | None = None,
        sequential: bool = False,
        requires_approval: bool = False,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> Callable[
        [Callable[Concatenate[RunContext[AgentDepsT], Params], ReturnedT]],
        Callable[Concatenate[RunContext[AgentDepsT], Params], ReturnedT],
    ]: ...

    def tool(self, func: Any = None, /, **options: Any) -> Any:
        """Decorate a function that takes ``RunContext`` first, to let the model call it.

        Arguments are those of `Tool`; ``retries`` is its ``max_retries``.
        """
        return self._tool_decorator(func, True, options)

    @overload
    def tool_plain(self, func: Callable[Params, ReturnedT], /) -> Callable[Params, ReturnedT]: ...

    @overload
    def tool_plain(
        self,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        retries: int | None = None,
        prepare: ToolPrepareFunc[AgentDepsT] | None = None,
        docstring_format: DocstringFormat = "auto",
        require_parameter_descriptions: bool = False,
        schema_generator: type[GenerateJsonSchema] = GenerateToolJsonSchema,
        strict: bool | None = None,
        sequential: bool = False,
        requires_approval: bool = False,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> Callable[[Callable[Params, ReturnedT]], Callable[Params, ReturnedT]]: ...

    def tool_plain(self, func: Any = None, /, **options: Any) -> Any:
        """Decorate a function that takes only what the model sends, to let the model call it; see `tool`."""
        return self._tool_decorator(func, False, options)

    def _tool_decorator(self, func: Any, takes_ctx: bool, options: dict[str, Any]) -> Any:
        def add(function: Any) -> Any:
            self._function_toolset.add_function(function, takes_ctx, **options)
            return function

        return add if func is None else add(func)

    @overload
    def toolset(self, func: ToolsetFunc[AgentDepsT], /) -> ToolsetFunc[AgentDepsT]: ...

    @overload
    def toolset(
        self, /, *, per_run_step: bool = True, id: str | None = None
    ) -> Callable[[ToolsetFunc[AgentDepsT]], ToolsetFunc[AgentDepsT]]: ...

    def toolset(
        self,
        func: ToolsetFunc[AgentDepsT] | None = None,
        /,
        *,
        per_run_step: bool = True,
        id: str | None = None,
    ) -> Any:
        """Decorate a function that makes a toolset from ``RunContext``.

        Args:
            func: the function.
            per_run_step: ask before each request; otherwise once a run.
            id: a name that is unique among the agent's toolsets.
        """

        def add(function: ToolsetFunc[AgentDepsT]) -> ToolsetFunc[AgentDepsT]:
            self._dynamic_toolsets.append(DynamicToolset(function, per_run_step=per_run_step, id=id))
            self._changed()
            return function

        return add if func is None else add(func)
