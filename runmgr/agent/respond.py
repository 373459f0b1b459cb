"""Acting on a response: its tool calls, or the output that it holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from runmgr.agent.begin import user_prompt_part
from runmgr.agent.calls import handle_tool_calls
from runmgr.agent.direct import FAILURES, direct_tool
from runmgr.agent.emit import Emit
from runmgr.agent.result import FinalResult
from runmgr.agent.returns import tool_return_parts
from runmgr.agent.state import GraphAgentDeps, GraphAgentState, build_run_context, token_limit
from runmgr.exceptions import ContentFilterError, ToolRetryError, UnexpectedModelBehavior
from runmgr.graph import End, GraphRunContext
from runmgr.messages import (
    BinaryImage,
    BuiltinToolCallEvent,
    BuiltinToolCallPart,
    BuiltinToolResultEvent,
    BuiltinToolReturnPart,
    FilePart,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
)
from runmgr.messages.clock import now_utc
from runmgr.tools.schema import stopped
from runmgr.toolsets.manager import validated

if TYPE_CHECKING:
    from runmgr.agent.nodes import CallToolsNode
    from runmgr.toolsets.abstract import ToolsetTool

__all__ = ("act_on", "call_directly", "finish", "glance", "respond", "text_of")


async def respond(
    node: CallToolsNode[Any, Any],
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]],
    emit: Emit | None,
) -> ModelRequest | End[FinalResult[Any]]:
    """What comes after a response: a request with the results of its tools, or the end."""
    response = node.model_response
    calls: list[ToolCallPart] | None = None
    text = ""
    image: BinaryImage | None = None
    part: Any
    for part in response.parts:
        kind = cast("Any", type(part))
        if kind is TextPart:
            text += part.content
        elif kind is ToolCallPart:
            if calls is None:
                calls = []
            calls.append(part)
        elif isinstance(part, BuiltinToolCallPart):
            text = ""  # what was said before the provider's own tool ran is not the answer
            if emit is not None:
                await emit(_quietly(BuiltinToolCallEvent, part))
        elif isinstance(part, BuiltinToolReturnPart):
            if emit is not None:
                await emit(_quietly(BuiltinToolResultEvent, part))
        elif isinstance(part, FilePart) and isinstance(part.content, BinaryImage):
            image = part.content

    plan = ctx.deps.plan
    if calls is not None:
        return await act_on(node, ctx, calls, emit)
    if not response.parts:
        return await _empty(ctx, response)
    schema = plan.output_schema
    if image is not None and schema.allows_image:
        return await _output(ctx, image)
    if text and plan.plain_text:
        return End(FinalResult(text))
    try:
        if text and schema.text_processor is not None:
            value = await schema.text_processor.process(text, build_run_context(ctx))
            return await _output(ctx, value)
        raise ToolRetryError(RetryPromptPart(plan.ask_for_output()))
    except ToolRetryError as error:
        ctx.state.increment_retries(plan.max_result_retries, error, ctx.deps.model_settings)
        return await _request(ctx, [error.tool_retry])


def glance(response: ModelResponse) -> str | list[ToolCallPart] | None:
    """What most responses come to: their text, or their calls; None where there is anything else in one."""
    parts: Any = response.parts
    if len(parts) == 1:
        part: Any = parts[0]
        kind: Any = type(part)  # pyright: ignore[reportUnknownVariableType]
        return [part] if kind is ToolCallPart else part.content if kind is TextPart else None
    text = ""
    calls: list[ToolCallPart] | None = None
    for part in parts:
        kind = type(part)  # pyright: ignore[reportUnknownVariableType]
        if kind is ToolCallPart:
            if calls is None:
                calls = []
            calls.append(part)
        elif kind is TextPart:
            text += part.content
        else:
            return None
    return text if calls is None else calls


def text_of(response: ModelResponse) -> str:
    """The text that may be the run's output: all of it, from the last call of a provider's own tool on."""
    text = ""
    for part in response.parts:
        if type(part) is TextPart:
            text += part.content
        elif isinstance(part, BuiltinToolCallPart):
            text = ""
    return text


def _quietly(event: Any, part: Any) -> Any:
    """A deprecated event, which old listeners still expect."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return event(part)


async def act_on(
    node: CallToolsNode[Any, Any],
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]],
    calls: list[ToolCallPart],
    emit: Emit | None,
    failed: Exception | None = None,
) -> ModelRequest | End[FinalResult[Any]]:
    """What comes after a response's tool calls.

    Args:
        node: the node that holds the response.
        ctx: the run.
        calls: the calls.
        emit: told of each call and each result.
        failed: the one call was made already, and this is how it failed.
    """
    if emit is None and failed is None and node.tool_call_results is None:
        tool = direct_tool(ctx.deps, calls)
        if tool is not None:
            return await call_directly(node, ctx.state, ctx.deps, tool, calls, lambda: ctx)
    final, parts = await handle_tool_calls(node, ctx, calls, emit, failed=failed)
    if final is not None:
        return finish(ctx, final, parts)
    if node.user_prompt is not None:
        parts.append(user_prompt_part(node.user_prompt))
    return await _request(ctx, parts)


async def call_directly(
    node: CallToolsNode[Any, Any],
    state: GraphAgentState,
    deps: GraphAgentDeps[Any, Any],
    tool: ToolsetTool[Any],
    calls: list[ToolCallPart],
    ctx: Callable[[], GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]]],
) -> ModelRequest | End[FinalResult[Any]]:
    """What comes after a response with one call that needs no context: see `direct_tool`.

    Args:
        node: the node that holds the response.
        state: the run's.
        deps: the run's.
        tool: what is called.
        calls: the one call.
        ctx: gives the run, for whoever acts on a failure.
    """
    call = calls[0]
    plan = deps.plan
    direct: Any = tool.direct
    try:
        value = await direct(**validated(call, tool, plan.validation_context))
    except FAILURES as error:
        failed = error
    except StopAsyncIteration as error:
        raise stopped(direct) from error
    else:
        state.usage.tool_calls += 1
        part, extra = tool_return_parts(call, value)
        parts: list[ModelRequestPart] = [part] if extra is None else [part, extra]
        if node.user_prompt is not None:
            parts.append(user_prompt_part(node.user_prompt))
        return ModelRequest(parts, instructions=plan.instructions)
    return await act_on(node, ctx(), calls, None, failed)


async def _request(
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]], parts: list[ModelRequestPart]
) -> ModelRequest:
    plan = ctx.deps.plan
    if not plan.instructions_functions:
        return ModelRequest(parts, instructions=plan.instructions)
    return ModelRequest(parts, instructions=await plan.instructions_for(build_run_context(ctx)))


async def _output(
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]], value: Any
) -> End[FinalResult[Any]]:
    """The end with an output that did not come from a tool: validators have yet to see it."""
    deps = ctx.deps
    for validator in deps.plan.output_validators:
        run_context = build_run_context(ctx)
        run_context.max_retries = deps.plan.max_result_retries
        value = await validator.validate(value, run_context)
    return End(FinalResult(value))


def finish(
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]],
    final: FinalResult[Any],
    parts: list[ModelRequestPart],
) -> End[FinalResult[Any]]:
    """The end; the answers to the last tool calls go into the history, so that it can be continued."""
    if parts:
        state = ctx.state
        state.message_history.append(ModelRequest(parts, run_id=state.run_id, timestamp=now_utc()))
    return End(final)


async def _empty(
    ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]], response: ModelResponse
) -> ModelRequest | End[FinalResult[Any]]:
    """A response without any part.

    Some models say all that they have to say beside their last tool calls: the text of this run's last response that
    has some is the output then. Otherwise the model is asked once more.
    """
    state = ctx.state
    deps = ctx.deps
    plan = deps.plan
    if response.finish_reason == "length":
        raise UnexpectedModelBehavior(
            f"Model token limit ({token_limit(deps.model_settings)}) exceeded before any response was generated. "
            "Increase the `max_tokens` model setting, or simplify the prompt to result in a shorter response that will "
            "fit within the limit."
        )
    if response.finish_reason == "content_filter":
        reason = (response.provider_details or {}).get("finish_reason", "content_filter")
        raise ContentFilterError(
            f"Content filter triggered. Finish reason: {reason!r}",
            body=ModelMessagesTypeAdapter.dump_json([response]).decode(),
        )
    if plan.output_schema.allows_none:
        return await _output(ctx, None)
    processor = plan.output_schema.text_processor
    if processor is not None:
        for message in reversed(state.message_history[deps.new_message_index :]):
            if isinstance(message, ModelResponse) and (text := text_of(message)):
                try:
                    return await _output(ctx, await processor.process(text, build_run_context(ctx)))
                except ToolRetryError:
                    break
    state.increment_retries(plan.max_result_retries, model_settings=deps.model_settings)
    return await _request(ctx, [])
