"""The first step of a run: from a prompt and a history to a request, or to a response that waits to be acted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from runmgr.agent.history import fresh_request, prompt_of, with_fresh_dynamic_prompts
from runmgr.agent.state import GraphAgentDeps, GraphAgentState, build_run_context
from runmgr.exceptions import UserError
from runmgr.graph import GraphRunContext
from runmgr.messages import (
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from runmgr.structs import replace
from runmgr.tools.context import RunContext
from runmgr.tools.deferred import DeferredToolResults, ToolApproved, ToolDenied

if TYPE_CHECKING:
    from runmgr.agent.nodes import UserPromptNode

__all__ = ("begin", "first_request", "user_prompt_part")

NOTHING = "No message history, user prompt, or instructions provided"

ToAct: TypeAlias = "tuple[ModelResponse, dict[str, Any] | None, dict[str, dict[str, Any]] | None, str | Sequence[UserContent] | None]"
"""A response to act on, answers from outside with their metadata, and what the user says besides."""


async def begin(
    node: UserPromptNode[Any, Any], ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]]
) -> ModelRequest | ToAct:
    """What a run starts with. The request is not yet in the history."""
    state = ctx.state
    deps = ctx.deps
    history = state.message_history
    plan = deps.plan
    if node.deferred_tool_results is not None:
        return _answered(node, history, node.deferred_tool_results)

    prompt = node.user_prompt
    parts: list[ModelRequestPart]
    if not history and not node.system_prompt_functions and not plan.instructions_functions:
        return first_request(prompt, node.system_prompts, plan.instructions)
    run_context = build_run_context(ctx)
    if not history:
        parts = await _system_prompts(node, run_context)
    else:
        last = history[-1]
        if isinstance(last, ModelRequest):
            if prompt is None:  # send it again
                if run_context.prompt is None:
                    run_context.prompt = deps.prompt = prompt_of(last)
                history.pop()
                if node.system_prompt_dynamic_functions:
                    await with_fresh_dynamic_prompts(
                        history, node.system_prompt_dynamic_functions, run_context
                    )
                    last = await fresh_request(last, node.system_prompt_dynamic_functions, run_context)
                return replace(
                    last, parts=last.parts[:], instructions=await deps.get_instructions(run_context), timestamp=None,
                    run_id=None,
                )  # fmt: skip
        elif last.tool_calls:
            if prompt is not None:
                raise UserError(
                    "Cannot provide a new user prompt when the message history contains unprocessed tool calls."
                )
            return last, None, None, None
        elif prompt is None and not await deps.get_instructions(run_context):
            return last, None, None, None  # nothing to add: its text is the output
        if node.system_prompt_dynamic_functions:
            await with_fresh_dynamic_prompts(history, node.system_prompt_dynamic_functions, run_context)
        parts = []
    instructions = (
        await plan.instructions_for(run_context) if plan.instructions_functions else plan.instructions
    )
    if prompt is not None:
        parts.append(user_prompt_part(prompt))
    elif not parts and not instructions and not history:
        raise UserError(NOTHING)
    return ModelRequest(parts, instructions=instructions)


def first_request(
    prompt: str | Sequence[UserContent] | None, system_prompts: Sequence[str], instructions: str | None
) -> ModelRequest:
    """The first request of a conversation, where nobody is asked for anything, so nobody needs a context.

    Raises:
        UserError: there is nothing to ask.
    """
    parts: list[ModelRequestPart] = (
        [SystemPromptPart(text) for text in system_prompts] if system_prompts else []
    )
    if prompt is not None:
        parts.append(user_prompt_part(prompt))
    elif not parts and not instructions:
        raise UserError(NOTHING)
    return ModelRequest(parts, instructions=instructions)


def user_prompt_part(prompt: str | Sequence[UserContent]) -> UserPromptPart:
    """The part for what a user says."""
    return UserPromptPart(prompt if isinstance(prompt, (str, list)) else list(prompt))


async def _system_prompts(node: UserPromptNode[Any, Any], ctx: RunContext[Any]) -> list[ModelRequestPart]:
    parts: list[ModelRequestPart] = [SystemPromptPart(text) for text in node.system_prompts]
    for runner in node.system_prompt_functions:
        text = await runner.run(ctx)
        if runner.dynamic:
            # Kept even when it says nothing now: it may have something to say when the run is continued.
            parts.append(SystemPromptPart(text or "", dynamic_ref=runner.ref))
        elif text:
            parts.append(SystemPromptPart(text))
    return parts


def _answered(node: UserPromptNode[Any, Any], history: list[Any], results: DeferredToolResults) -> ToAct:
    """The last response of the history with the answers to its calls.

    Raises:
        UserError: there is no such response, or it has no calls.
    """
    if not history:
        raise UserError("Tool call results were provided, but the message history is empty.")
    response: ModelResponse | None = None
    answered: dict[str, Any] = {}
    for message in reversed(history):
        if isinstance(message, ModelResponse):
            response = message
            break
        for part in message.parts:
            if isinstance(part, ToolReturnPart) or (
                isinstance(part, RetryPromptPart) and part.tool_name is not None
            ):
                answered[part.tool_call_id] = "skip"
    if response is None:
        raise UserError(
            "Tool call results were provided, but the message history does not contain a `ModelResponse`."
        )
    if not response.tool_calls:
        raise UserError(
            "Tool call results were provided, but the message history does not contain any unprocessed tool calls."
        )
    answers: dict[str, Any] = dict(results.calls)
    for call_id, approval in results.approvals.items():
        if approval is True:
            answers[call_id] = ToolApproved()
        elif approval is False:
            answers[call_id] = ToolDenied()
        else:
            answers[call_id] = approval
    ids = {call.tool_call_id for call in response.tool_calls}
    answers.update((call_id, mark) for call_id, mark in answered.items() if call_id in ids)
    return response, answers, results.metadata or None, node.user_prompt
