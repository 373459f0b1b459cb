"""Around one model request: what is sent, and what is counted when the response has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from runmgr.agent.history import run_history_processors
from runmgr.agent.prompts import call_with_context
from runmgr.agent.state import GraphAgentDeps, GraphAgentState, build_run_context
from runmgr.graph import GraphRunContext
from runmgr.messages import ModelMessage, ModelRequest, ModelResponse, merge_consecutive
from runmgr.messages.clock import now_utc
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings, merge_model_settings
from runmgr.structs import replace
from runmgr.usage import RequestUsage, add_tokens

if TYPE_CHECKING:
    from runmgr.tools.context import RunContext

__all__ = ("Prepared", "ends_with", "prepare_now", "prepare_request", "receive_response")

Prepared: TypeAlias = "tuple[list[ModelMessage], ModelSettings | None, ModelRequestParameters]"
"""What a model is given."""


async def prepare_request(
    request: ModelRequest, ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]]
) -> Prepared:
    """Put the request into the history, check the limits, and say what to send.

    Waits only for what can change from request to request: tools and settings that depend on the context, history
    processors, counting of tokens.

    Raises:
        UsageLimitExceeded: one more request, or the tokens of this one, are too many.
        UserError: history processors left nothing that can be sent.
    """
    prepared = prepare_now(request, ctx.state, ctx.deps)
    if prepared is not None:
        return prepared
    state = ctx.state
    deps = ctx.deps
    deps.tools = None
    plan = deps.plan
    history = state.message_history
    _put(request, state, deps)
    manager = deps.tool_manager
    if not manager.prepare_static(state.run_step):
        await manager.prepare(build_run_context(ctx))
    if plan.history_processors:
        run_context = build_run_context(ctx)
        await run_history_processors(plan.history_processors, state, deps, run_context)
        deps.kept = (request, history[-1])
        messages = merge_consecutive(history)
    else:
        messages = merge_consecutive(history) if deps.has_neighbours else history
    if deps.settings_change:
        run_context = build_run_context(ctx)
        deps.model_settings = await settings_for_request(deps, run_context)
        run_context.model_settings = deps.model_settings
    params = plan.parameters(manager.tools)
    if params is None:
        params = await plan.parameters_for(build_run_context(ctx), manager.tools)
    limits = deps.usage_limits
    usage = state.usage
    if limits.count_tokens_before_request:
        counted = await deps.model.count_tokens(messages, deps.model_settings, params)
        usage = replace(usage, details=dict(usage.details))
        usage.incr(counted)
    limits.check_before_request(usage)
    return messages, deps.model_settings, params


def prepare_now(
    request: ModelRequest, state: GraphAgentState, deps: GraphAgentDeps[Any, Any]
) -> Prepared | None:
    """As `prepare_request`, where nothing depends on anything but the history; None, and nothing is done, where something does."""
    plan = deps.plan
    limits = deps.usage_limits
    if (
        plan.history_processors
        or plan.builtin_functions
        or deps.settings_change
        or limits.count_tokens_before_request
    ):
        return None
    tools = deps.toolset.static_tools()
    if tools is None:
        return None
    history = state.message_history
    _put(request, state, deps)
    deps.tools = tools
    if deps.manager is not None:
        deps.manager.prepare_static(state.run_step)
    limits.check_before_request(state.usage)
    messages = merge_consecutive(history) if deps.has_neighbours else history
    params: Any = plan.parameters(tools)
    return messages, deps.model_settings, params


def _put(request: ModelRequest, state: GraphAgentState, deps: GraphAgentDeps[Any, Any]) -> None:
    """Put a request into the history, but where it ends with it: a step begins."""
    history = state.message_history
    if history:
        last = history[-1]
        if (type(last) is not ModelResponse or deps.kept is not None) and ends_with(
            history, request, deps.kept
        ):
            return
        if type(last) is ModelRequest:
            deps.has_neighbours = True
    request.timestamp = now_utc()
    if request.run_id is None:
        request.run_id = state.run_id
    history.append(request)
    state.run_step += 1


def ends_with(
    history: list[ModelMessage], request: ModelRequest, kept: tuple[ModelRequest, ModelMessage] | None
) -> bool:
    """Whether a history ends with a request already, as it does when a failed step is tried again.

    Args:
        history: the messages.
        request: the request.
        kept: see `GraphAgentDeps.kept`.
    """
    if not history:
        return False
    last = history[-1]
    return last is request or (kept is not None and kept[0] is request and kept[1] is last)


async def settings_for_request(
    deps: GraphAgentDeps[Any, Any], run_context: RunContext[Any]
) -> ModelSettings | None:
    """Settings merged, model < agent < run, with those that are functions asked."""
    merged = deps.model.settings
    for given in (deps.plan.model_settings, deps.run_settings):
        settings = await call_with_context(given, run_context) if callable(given) else given
        merged = merge_model_settings(merged, settings)
    return merged


def receive_response(response: ModelResponse, state: GraphAgentState, deps: GraphAgentDeps[Any, Any]) -> None:
    """Count a whole response and put it into the history.

    Raises:
        UsageLimitExceeded: its tokens are too many; it is in the history and counted all the same.
    """
    usage = state.usage
    usage.requests += 1
    if type(response.usage) is RequestUsage:
        add_tokens(usage, response.usage)
    else:
        usage.incr(response.usage)
    if response.run_id is None:
        response.run_id = state.run_id
    state.message_history.append(response)
    limits = deps.usage_limits
    if (
        limits.input_tokens_limit is not None
        or limits.output_tokens_limit is not None
        or limits.total_tokens_limit is not None
    ):
        limits.check_tokens(usage)
