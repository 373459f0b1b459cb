"""Acting on a response's tool calls: output tools, function tools, calls that are answered from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from runmgr.agent.emit import Collected, Emit
from runmgr.agent.result import FinalResult
from runmgr.agent.returns import tool_return_parts
from runmgr.agent.state import GraphAgentDeps, GraphAgentState, build_run_context
from runmgr.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    ToolRetryError,
    UnexpectedModelBehavior,
    UserError,
)
from runmgr.graph import GraphRunContext
from runmgr.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelRequestPart,
    RetryPromptPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.structs import replace
from runmgr.tools.context import RunContext
from runmgr.tools.deferred import DeferredToolRequests, ToolApproved, ToolDenied

if TYPE_CHECKING:
    from runmgr.agent.nodes import CallToolsNode

__all__ = ("handle_tool_calls",)

FINAL_RESULT = "Final result processed."
OUTPUT_NOT_USED = "Output tool not used - a final result was already processed."
OUTPUT_NOT_VALID = "Output tool not used - output failed validation."
NOT_EXECUTED = "Tool not executed - a final result was already processed."


class _Handled:
    """What came of a response's tool calls."""

    __slots__ = ("deferred", "extra", "final", "parts")

    def __init__(self, final: FinalResult[Any] | None) -> None:
        self.final = final
        self.parts: list[ModelRequestPart] = []
        self.extra: list[UserPromptPart] = []
        self.deferred: DeferredToolRequests | None = None

    def defer(self, call: ToolCallPart, *, approval: bool, metadata: dict[str, Any] | None = None) -> None:
        deferred = self.deferred
        if deferred is None:
            deferred = self.deferred = DeferredToolRequests()
        (deferred.approvals if approval else deferred.calls).append(call)
        if metadata is not None:
            deferred.metadata[call.tool_call_id] = metadata


async def handle_tool_calls(
    node: CallToolsNode[Any, Any],
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]],
    calls: Sequence[ToolCallPart],
    emit: Emit | None,
    final: FinalResult[Any] | None = None,
    failed: Exception | None = None,
) -> tuple[FinalResult[Any] | None, list[ModelRequestPart]]:
    """Run what a response asks for.

    Args:
        node: the node that holds the response, and answers from outside where there are some.
        ctx: the run.
        calls: the response's calls, in order.
        emit: told of each call before it runs and of each result, in the order of completion.
        final: the result where it is known already, by text.
        failed: the one call was made already, and this is how it failed: see `runmgr.agent.direct`.

    Returns:
        The final result, if there is one, and the parts of the next request: in the order of the calls, output tools
        before others.

    Raises:
        UsageLimitExceeded: the calls would pass the limit; then none of them ran.
        UnexpectedModelBehavior: retries are used up.
        UserError: a call is deferred and the output type has no ``DeferredToolRequests``.
        Exception: whatever a tool raises; calls that ran beside it are cancelled and have ended by then.
    """
    deps = ctx.deps
    manager = deps.tool_manager
    run_context = build_run_context(ctx)
    if not manager.prepared:
        await manager.prepare(run_context)
    handled = _Handled(final)
    outputs: list[ToolCallPart] = []
    functions: list[ToolCallPart] = []
    outside: list[ToolCallPart] = []
    unknown: list[ToolCallPart] = []
    for call in calls:
        tool = manager.get_tool_def(call.tool_name)
        if tool is None:
            unknown.append(call)
        elif tool.kind == "function":
            functions.append(call)
        elif tool.kind == "output":
            outputs.append(call)
        else:
            outside.append(call)

    if outputs:
        await _output_tools(ctx, outputs, handled, run_context, emit)

    results = node.tool_call_results
    if results is not None:
        _check_complete(calls, results)
    to_run = functions
    if handled.final is not None and deps.plan.end_strategy == "early":
        handled.parts += [ToolReturnPart(c.tool_name, NOT_EXECUTED, c.tool_call_id) for c in functions]
        to_run = []
    if unknown:
        if results is None:
            ctx.state.increment_retries(deps.plan.max_result_retries, model_settings=deps.model_settings)
        to_run = [*to_run, *unknown]
    if outside:
        if results is not None:
            to_run = [*to_run, *outside]
        elif handled.final is not None and not isinstance(handled.final.output, DeferredToolRequests):
            handled.parts += [ToolReturnPart(c.tool_name, NOT_EXECUTED, c.tool_call_id) for c in outside]

    if to_run:
        await _run(node, ctx, to_run, handled, run_context, emit, failed)

    if handled.final is None and results is None:
        for call in outside:
            if emit is not None:
                await emit(FunctionToolCallEvent(call))
            tool = manager.get_tool_def(call.tool_name)
            handled.defer(call, approval=tool is not None and tool.kind == "unapproved")
    if handled.final is None and handled.deferred is not None:
        if not deps.plan.output_schema.allows_deferred_tools:
            raise UserError(
                "A deferred tool call was present, but `DeferredToolRequests` is not among output types. To resolve "
                "this, add `DeferredToolRequests` to the list of output types for this agent."
            )
        handled.final = FinalResult(handled.deferred)
    parts = handled.parts
    if handled.extra:
        parts.extend(handled.extra)
    return handled.final, parts


async def _output_tools(
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]],
    calls: Sequence[ToolCallPart],
    handled: _Handled,
    run_context: RunContext[Any],
    emit: Emit | None,
) -> None:
    """Run output tools, one after the other: the first that succeeds is the result."""
    deps = ctx.deps
    plan = deps.plan
    parts = handled.parts
    for call in calls:
        if handled.final is not None and handled.final.tool_call_id == call.tool_call_id:
            parts.append(ToolReturnPart(call.tool_name, FINAL_RESULT, call.tool_call_id))  # a stream's result
            continue
        if handled.final is not None and plan.end_strategy == "early":
            if emit is not None:
                await emit(FunctionToolCallEvent(call))
            part = ToolReturnPart(call.tool_name, OUTPUT_NOT_USED, call.tool_call_id)
            parts.append(part)
            if emit is not None:
                await emit(FunctionToolResultEvent(part))
            continue
        failed: ToolReturnPart | RetryPromptPart
        try:
            value = await deps.tool_manager.call(call, run_context)
        except UnexpectedModelBehavior as error:
            # The tool's own count of failures is used up, which for an output is the run's count too.
            if handled.final is None:
                ctx.state.increment_retries(
                    plan.max_result_retries, error.__cause__ or error, deps.model_settings
                )
                raise
            failed = ToolReturnPart(call.tool_name, OUTPUT_NOT_VALID, call.tool_call_id)
        except ToolRetryError as error:
            if handled.final is None:
                ctx.state.increment_retries(plan.max_result_retries, error, deps.model_settings)
            failed = error.tool_retry
        else:
            parts.append(ToolReturnPart(call.tool_name, FINAL_RESULT, call.tool_call_id))
            if handled.final is None:
                handled.final = FinalResult(value, call.tool_name, call.tool_call_id)
            continue
        parts.append(failed)
        if emit is not None:
            await emit(FunctionToolCallEvent(call))
            await emit(FunctionToolResultEvent(failed))


def _check_complete(calls: Sequence[ToolCallPart], results: dict[str, Any]) -> None:
    expected = {call.tool_call_id for call in calls}
    if expected != results.keys():
        raise UserError(
            "Tool call results need to be provided for all deferred tool calls. "
            f"Expected: {_set(expected)}, got: {_set(results)}"
        )


def _set(ids: Any) -> str:
    return repr(set(ids)) if not ids else "{" + ", ".join(sorted(map(repr, ids))) + "}"


async def _run(
    node: CallToolsNode[Any, Any],
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]],
    calls: Sequence[ToolCallPart],
    handled: _Handled,
    run_context: RunContext[Any],
    emit: Emit | None,
    failed: Exception | None,
) -> None:
    """Run calls, or take their results from outside; parts are in the order of the calls."""
    deps = ctx.deps
    state = ctx.state
    results = node.tool_call_results
    if results is not None:
        calls = [call for call in calls if results.get(call.tool_call_id) != "skip"]
    limits = deps.usage_limits
    if limits.tool_calls_limit is not None:
        count = len(calls)
        if results is not None:
            count = sum(isinstance(results[call.tool_call_id], ToolApproved) for call in calls)
        projected = replace(state.usage, tool_calls=state.usage.tool_calls + count)
        limits.check_before_tool_call(projected)
    if emit is not None:
        for call in calls:
            await emit(FunctionToolCallEvent(call))

    one = _Caller(node, ctx, run_context, emit, failed)
    outcomes: list[_Outcome]
    if len(calls) == 1:
        outcomes = [await one.call(calls[0])]
    elif deps.tool_manager.should_call_sequentially(calls):
        outcomes = [await one.call(call) for call in calls]
    else:
        outcomes = await _together(one, calls, deps.plan.max_concurrency)
    for part, extra in outcomes:
        if part is not None:
            handled.parts.append(part)
            if extra is not None:
                handled.extra.append(extra)
    # Calls that turned out to be deferred are listed in call order, whichever said so first.
    for call in calls:
        cause = one.deferred.get(call.tool_call_id) if one.deferred else None
        if cause is not None:
            handled.defer(call, approval=isinstance(cause, ApprovalRequired), metadata=cause.metadata)


_Outcome: TypeAlias = "tuple[ToolReturnPart | RetryPromptPart | None, UserPromptPart | None]"


class _Caller:
    """Runs one call after another or beside others, for one response."""

    __slots__ = ("_ctx", "_failed", "_node", "_run_context", "deferred", "emit")

    def __init__(
        self,
        node: CallToolsNode[Any, Any],
        ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]],
        run_context: RunContext[Any],
        emit: Emit | None,
        failed: Exception | None,
    ) -> None:
        self._failed = failed
        self._node = node
        self._ctx = ctx
        self._run_context = run_context
        self.emit = emit
        self.deferred: dict[str, CallDeferred | ApprovalRequired] | None = None

    async def call(self, call: ToolCallPart) -> _Outcome:
        """The parts that a call comes to; no part where it is deferred."""
        ctx = self._ctx
        extra: UserPromptPart | None = None
        part: ToolReturnPart | RetryPromptPart
        try:
            results = self._node.tool_call_results
            if results is None:
                value = await self._execute(call)
                ctx.state.usage.tool_calls += 1
                part, extra = tool_return_parts(call, value)
            elif isinstance(result := results[call.tool_call_id], ToolApproved):
                if result.override_args is not None:
                    call = replace(call, args=result.override_args)
                metadata = self._node.tool_call_metadata
                value = await self._execute(
                    call, approved=True, metadata=metadata.get(call.tool_call_id) if metadata else None
                )
                ctx.state.usage.tool_calls += 1
                part, extra = tool_return_parts(call, value)
            else:
                part, extra = _from_outside(call, result)
        except ToolRetryError as error:
            part = error.tool_retry
        except (CallDeferred, ApprovalRequired) as cause:
            if self.deferred is None:
                self.deferred = {}
            self.deferred[call.tool_call_id] = cause
            return None, None
        if self.emit is not None:
            await self.emit(FunctionToolResultEvent(part, content=extra.content if extra else None))
        return part, extra

    async def _execute(
        self, call: ToolCallPart, *, approved: bool = False, metadata: dict[str, Any] | None = None
    ) -> Any:
        deps = self._ctx.deps
        if deps.instrumentation_settings is not None:
            from runmgr.agent.tracing import traced_tool_call

            return await traced_tool_call(deps, call, self._run_context, approved=approved, metadata=metadata)
        return await deps.tool_manager.call(
            call, self._run_context, approved=approved, metadata=metadata, failed=self._failed
        )


def _from_outside(
    call: ToolCallPart, result: Any
) -> tuple[ToolReturnPart | RetryPromptPart, UserPromptPart | None]:
    """The parts for a result that came from outside the run."""
    if isinstance(result, ToolDenied):
        return ToolReturnPart(call.tool_name, result.message, call.tool_call_id), None
    if isinstance(result, ModelRetry):
        return RetryPromptPart(result.message, tool_name=call.tool_name, tool_call_id=call.tool_call_id), None
    if isinstance(result, RetryPromptPart):
        return replace(result, tool_name=call.tool_name, tool_call_id=call.tool_call_id), None
    return tool_return_parts(call, result)


async def _together(
    one: _Caller, calls: Sequence[ToolCallPart], max_concurrency: int | None
) -> list[_Outcome]:
    """Run calls at once. When one raises, the others are cancelled and have ended before its error is raised."""
    outcomes: list[_Outcome] = [(None, None)] * len(calls)
    errors: list[Exception] = []
    waiting = iter(enumerate(calls))
    emit = one.emit
    collected: Collected | None = None
    if emit is not None and not emit.from_tasks:
        one.emit = collected = Collected()

    async def work() -> None:
        try:
            for index, call in waiting:
                if errors:
                    return  # a call that has not begun need not be cancelled
                outcomes[index] = await one.call(call)
        except Exception as error:  # noqa: BLE001 (the first one is raised below, bare)
            errors.append(error)
            nursery.cancel_scope.cancel()

    workers = len(calls) if max_concurrency is None else min(len(calls), max_concurrency)
    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(work)
    if emit is not None and collected is not None:
        one.emit = emit
        for event in collected.events:
            await emit(event)
    if errors:
        raise errors[0]
    return outcomes
