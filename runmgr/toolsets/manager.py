"""What one run does with its tools: lists them before each request, calls them, counts their failures."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic

import trio
from pydantic import ValidationError

from runmgr.exceptions import ModelRetry, ToolRetryError, UnexpectedModelBehavior
from runmgr.messages import RetryPromptPart, ToolCallPart
from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT

if TYPE_CHECKING:
    from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool

__all__ = ("ToolManager", "retry_content", "sequential_tool_calls", "validated")


_one_by_one: ContextVar[bool] = ContextVar("runmgr_sequential_tool_calls", default=False)


@contextmanager
def sequential_tool_calls() -> Generator[None]:
    """Run the calls of a response one after the other, in the block and in tasks that it starts."""
    before = _one_by_one.set(True)
    try:
        yield
    finally:
        _one_by_one.reset(before)


class ToolManager(Generic[AgentDepsT]):
    """The tools of one run.

    Failures are counted per tool and step: a tool that failed in a step, however often, has failed once more; one that
    did not fail starts again from zero.

    Args:
        toolset: all tools, output tools included.
        default_timeout: seconds for calls of function tools that say nothing themselves.
        default_max_retries: failures in a row that are allowed for a tool that does not exist.
        retries: consecutive failures by tool name, of a run that goes on.
        retries_of: the step whose responses they count for, if the run goes on within it; None: the next step's.
    """

    __slots__ = (
        "_counted_step",
        "_failed",
        "_run_step",
        "_tool_defs",
        "default_max_retries",
        "default_timeout",
        "prepared",
        "retries",
        "tools",
        "toolset",
    )

    tools: Mapping[str, ToolsetTool[AgentDepsT]]
    """The tools of the current step by name."""
    retries: dict[str, int]
    """Consecutive failures by tool name, as of the beginning of the current step."""

    def __init__(
        self,
        toolset: AbstractToolset[AgentDepsT],
        default_timeout: float | None = None,
        *,
        default_max_retries: int = 1,
        retries: dict[str, int] | None = None,
        retries_of: int | None = None,
    ) -> None:
        self.toolset = toolset
        self.default_timeout = default_timeout
        self.default_max_retries = default_max_retries
        self.retries = retries if retries is not None else {}
        self.tools = {}
        self.prepared = False
        """Whether ``prepare`` has listed the tools yet."""
        self._failed: set[str] | None = None
        self._run_step: int | None = None
        self._counted_step = retries_of
        self._tool_defs: list[ToolDefinition] | None = None

    async def prepare(self, ctx: RunContext[AgentDepsT]) -> None:
        """List the tools for the next model request. Does not wait where they do not depend on the context.

        Args:
            ctx: the run's context; ``ctx.retries`` is brought up to date. Nothing happens if it is still at the step that
                was prepared last.
        """
        step = ctx.run_step
        if step == self._run_step:
            return
        if not self.prepare_static(step):
            self._begin(step)
            ctx.retries = self.retries
            self._list(step, await self.toolset.get_tools(ctx))
        ctx.retries = self.retries

    def prepare_static(self, step: int) -> bool:
        """As ``prepare``, without a context; False, and nothing is done, where the tools depend on one."""
        if step == self._run_step:
            return True
        tools = self.toolset.static_tools()
        if tools is None:
            return False
        self._begin(step)
        self._list(step, tools)
        return True

    def take(self, step: int, tools: Mapping[str, ToolsetTool[AgentDepsT]]) -> None:
        """As ``prepare_static``, with tools that were listed already.

        Args:
            step: what they were listed for.
            tools: what the toolset gave.
        """
        self._begin(step)
        self._list(step, tools)

    def _begin(self, step: int) -> None:
        if self._counted_step != step:
            if self._counted_step is not None:
                self.retries = self.pending_retries()
                self._failed = None
            self._counted_step = step

    def _list(self, step: int, tools: Mapping[str, ToolsetTool[AgentDepsT]]) -> None:
        if tools is not self.tools:
            self.tools = tools
            self._tool_defs = None
        self._run_step = step
        self.prepared = True

    @property
    def tool_defs(self) -> list[ToolDefinition]:
        """What the model is told of the tools of the current step."""
        if self._tool_defs is None:
            self._tool_defs = [tool.tool_def for tool in self.tools.values()]
        return self._tool_defs

    def pending_retries(self) -> dict[str, int]:
        """Consecutive failures by tool name, as they will be in the next step: what a snapshot between steps keeps."""
        if not self._failed:
            return {}
        return {name: self.retries.get(name, 0) + 1 for name in self._failed}

    def get_tool_def(self, name: str) -> ToolDefinition | None:
        """The definition of a tool of the current step."""
        tool = self.tools.get(name)
        return None if tool is None else tool.tool_def

    def should_call_sequentially(self, calls: Sequence[ToolCallPart]) -> bool:
        """Whether one of the calls may not run beside others, or none may (`sequential_tool_calls`)."""
        if _one_by_one.get():
            return True
        for call in calls:
            tool = self.tools.get(call.tool_name)
            if tool is not None and tool.tool_def.sequential:
                return True
        return False

    async def call(
        self,
        part: ToolCallPart,
        ctx: RunContext[AgentDepsT],
        *,
        allow_partial: bool = False,
        wrap_validation_errors: bool = True,
        approved: bool = False,
        metadata: Any = None,
        failed: Exception | None = None,
    ) -> Any:
        """Check a call's arguments and run the tool, in the caller's task.

        Args:
            part: the call.
            ctx: the run's context; the tool gets a copy that says which call it is.
            allow_partial: the arguments are still being streamed.
            wrap_validation_errors: turn ``ValidationError`` and ``ModelRetry`` into ``ToolRetryError``.
            approved: a person has approved the call.
            metadata: for ``ctx.tool_call_metadata``.
            failed: the call was made already, and this is how it failed.

        Raises:
            ToolRetryError: the call failed and the model may try again.
            UnexpectedModelBehavior: it failed once too often; the failure is the cause.
            CallDeferred: the result comes from outside.
            ApprovalRequired: a person must approve the call.
            Exception: whatever else the tool raises.
        """
        name = part.tool_name
        tool = self.tools.get(name)
        own = ctx.copied()
        own.tool_name = name
        own.tool_call_id = part.tool_call_id
        own.retries = self.retries
        own.retry = self.retries.get(name, 0)
        own.max_retries = self.default_max_retries if tool is None else tool.max_retries
        own.tool_call_approved = approved
        own.tool_call_metadata = metadata
        own.partial_output = allow_partial
        try:
            if failed is not None:
                raise failed
            if tool is None:
                raise self._unknown(name)
            if tool.tool_def.kind == "external":
                raise RuntimeError("External tools cannot be called")
            valid = validated(part, tool, ctx.validation_context, partial=allow_partial)
            timeout = self.default_timeout
            if (
                timeout is None
                or tool.tool_def.kind == "output"
                or getattr(tool, "timeout", None) is not None
            ):
                return await self.toolset.call_tool(name, valid, own, tool)
            with trio.move_on_after(timeout):
                return await self.toolset.call_tool(name, valid, own, tool)
            raise ModelRetry(f"Timed out after {timeout} seconds.")
        except (ValidationError, ModelRetry) as error:
            if allow_partial and not wrap_validation_errors:
                raise  # more of the arguments is to come
            if own.retry >= own.max_retries:
                raise UnexpectedModelBehavior(
                    f"Tool {name!r} exceeded max retries count of {own.max_retries}"
                ) from error
            if not wrap_validation_errors:
                raise
            if not allow_partial:
                if self._failed is None:
                    self._failed = set()
                self._failed.add(name)
            raise ToolRetryError(
                RetryPromptPart(retry_content(error), tool_name=name, tool_call_id=part.tool_call_id)
            ) from error

    def _unknown(self, name: str) -> ModelRetry:
        if not self.prepared:
            raise ValueError(
                "ToolManager has not been prepared for a run step yet: await manager.prepare(ctx) first"
            )
        known = ", ".join(map(repr, self.tools))
        return ModelRetry(
            f"Unknown tool name: {name!r}. "
            + (f"Available tools: {known}" if known else "No tools available.")
        )


def validated(
    call: ToolCallPart, tool: ToolsetTool[Any], context: Any, *, partial: bool = False
) -> dict[str, Any]:
    """A call's arguments, checked.

    Args:
        call: the call.
        tool: whose arguments they are.
        context: for pydantic's validators.
        partial: the arguments are still being streamed.

    Raises:
        ValidationError: they do not fit.
    """
    args = call.args
    allowed = "trailing-strings" if partial else "off"
    if isinstance(args, dict):
        return tool.args_validator.validate_python(args, allow_partial=allowed, context=context)
    return tool.args_validator.validate_json(args or "{}", allow_partial=allowed, context=context)


def retry_content(error: ValidationError | ModelRetry) -> Any:
    """What a retry prompt says of an error: the message, or pydantic's list of details."""
    if isinstance(error, ValidationError):
        return error.errors(include_url=False, include_context=False)
    return error.message
