"""Functions that check or change a run's output before it is final."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeAlias

from runmgr.exceptions import ModelRetry
from runmgr.output.markers import OutputDataT
from runmgr.output.processors import as_retry, partial_context
from runmgr.tools.context import RunContext
from runmgr.tools.schema import call_function, is_async_callable
from runmgr.tools.types import AgentDepsT

__all__ = ("OutputValidator", "OutputValidatorFunc")

OutputValidatorFunc: TypeAlias = (
    Callable[[RunContext[AgentDepsT], OutputDataT], OutputDataT]
    | Callable[[RunContext[AgentDepsT], OutputDataT], Awaitable[OutputDataT]]
    | Callable[[OutputDataT], OutputDataT]
    | Callable[[OutputDataT], Awaitable[OutputDataT]]
)
"""Checks an output, with or without ``RunContext`` first; gives it back, or another one, or raises ``ModelRetry``."""


class OutputValidator(Generic[AgentDepsT, OutputDataT]):
    """An output validator, looked at once and then ready to run.

    Args:
        function: async ones run in the run's task, sync ones in a worker thread.
    """

    __slots__ = ("function", "is_async", "takes_ctx")

    def __init__(self, function: OutputValidatorFunc[AgentDepsT, OutputDataT]) -> None:
        self.function: Callable[..., Any] = function
        self.takes_ctx = len(inspect.signature(function).parameters) > 1
        self.is_async = is_async_callable(function)

    async def validate(
        self,
        result: Any,
        run_context: RunContext[AgentDepsT],
        wrap_validation_errors: bool = True,
        *,
        allow_partial: bool = False,
    ) -> Any:
        """The output as the function leaves it.

        Args:
            result: the output.
            run_context: the run's context, or that of the output tool's call.
            wrap_validation_errors: raise ``ToolRetryError`` for ``ModelRetry``.
            allow_partial: the output is still being streamed; the function sees ``ctx.partial_output``.

        Raises:
            ToolRetryError: the function asked for another try.
        """
        if allow_partial:
            run_context = partial_context(run_context)
        try:
            return await call_function(
                self.function,
                (run_context, result) if self.takes_ctx else (result,),
                {},
                run_context,
                is_async=self.is_async,
            )
        except ModelRetry as error:
            if not wrap_validation_errors:
                raise
            call: dict[str, Any] = {"tool_name": run_context.tool_name}
            if run_context.tool_call_id:
                call["tool_call_id"] = run_context.tool_call_id
            raise as_retry(error, **call) from error
