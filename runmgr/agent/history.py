"""Histories: what a run continues from, and what history processors make of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_type_hints

from runmgr.exceptions import UserError
from runmgr.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from runmgr.structs import replace
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT

if TYPE_CHECKING:
    from runmgr.agent.prompts import SystemPromptRunner
    from runmgr.agent.state import GraphAgentDeps, GraphAgentState

__all__ = (
    "HistoryProcessor",
    "clean_history",
    "prompt_of",
    "run_history_processors",
    "unanswered_calls",
    "with_fresh_dynamic_prompts",
)

HistoryProcessor: TypeAlias = (
    Callable[[list[ModelMessage]], list[ModelMessage]]
    | Callable[[list[ModelMessage]], Awaitable[list[ModelMessage]]]
    | Callable[[RunContext[AgentDepsT], list[ModelMessage]], list[ModelMessage]]
    | Callable[[RunContext[AgentDepsT], list[ModelMessage]], Awaitable[list[ModelMessage]]]
)
"""Makes the history that is sent, and kept, from the one so far. Sync ones are called in the event loop's thread."""


def clean_history(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """A new list in which neighbours of the same kind are one message, as providers want it.

    The messages themselves are not changed: what is joined is a new message. Requests are joined unless both have
    instructions and these differ; the answers to tool calls then come first. Responses are joined when neither comes
    from a provider: two real answers stay two.
    """
    cleaned: list[ModelMessage] = []
    for message in messages:
        if cleaned and type(last := cleaned[-1]) is type(message):
            joined = _join(last, message)
            if joined is not None:
                cleaned[-1] = joined
                continue
        cleaned.append(message)
    return cleaned


def _join(first: ModelMessage, second: ModelMessage) -> ModelMessage | None:
    if isinstance(first, ModelRequest):
        second = cast("ModelRequest", second)
        if first.instructions and second.instructions and first.instructions != second.instructions:
            return None
        parts = [*first.parts, *second.parts]
        parts.sort(key=lambda part: not isinstance(part, (ToolReturnPart, RetryPromptPart)))
        return ModelRequest(
            parts,
            timestamp=second.timestamp or first.timestamp,
            instructions=first.instructions or second.instructions,
        )
    second = cast("ModelResponse", second)
    if any(m.provider_response_id or m.provider_name or m.model_name for m in (first, second)):
        return None
    return replace(first, parts=[*first.parts, *second.parts], usage=first.usage + second.usage)


def unanswered_calls(messages: Sequence[ModelMessage]) -> bool:
    """Whether the history ends in a response whose tool calls nobody has answered."""
    return bool(messages) and isinstance(last := messages[-1], ModelResponse) and bool(last.tool_calls)


def prompt_of(request: ModelRequest) -> str | Sequence[UserContent] | None:
    """What the user said in a request: one prompt as it is, several as one list."""
    prompts = [part.content for part in request.parts if isinstance(part, UserPromptPart)]
    if not prompts:
        return None
    if len(prompts) == 1:
        return prompts[0]
    combined: list[UserContent] = []
    for prompt in prompts:
        if isinstance(prompt, str):
            combined.append(prompt)
        else:
            combined.extend(prompt)
    return combined


async def with_fresh_dynamic_prompts(
    messages: list[ModelMessage], runners: dict[str, SystemPromptRunner[Any]], ctx: RunContext[Any]
) -> None:
    """Ask the dynamic system prompts of a history again; changed messages are replaced in the list by new ones."""
    for index, message in enumerate(messages):
        if isinstance(message, ModelRequest):
            messages[index] = await fresh_request(message, runners, ctx)


async def fresh_request(
    request: ModelRequest, runners: dict[str, SystemPromptRunner[Any]], ctx: RunContext[Any]
) -> ModelRequest:
    """The request with its dynamic system prompts asked again; the same object where there are none."""
    parts = request.parts
    changed = False
    for index, part in enumerate(parts):
        if not isinstance(part, SystemPromptPart) or part.dynamic_ref is None:
            continue
        runner = runners.get(part.dynamic_ref)
        if runner is None:
            continue
        if not changed:
            parts = list(parts)
            changed = True
        parts[index] = replace(part, content=await runner.run(ctx) or "")
    return replace(request, parts=parts) if changed else request


def processor_takes_context(processor: Callable[..., Any]) -> bool:
    """Whether a history processor wants the run's context."""
    try:
        return _known_to_take_context(processor)
    except TypeError:  # a callable object that cannot be hashed
        return _takes_context(processor)


def _takes_context(processor: Callable[..., Any]) -> bool:
    """Whether a history processor wants the run's context: its first argument says so, or it takes two."""
    try:
        parameters = list(inspect.signature(processor).parameters.values())
    except ValueError:  # builtins without a signature
        return False
    if not parameters:
        return False
    try:
        hint: Any = get_type_hints(processor).get(parameters[0].name)
    except Exception:  # noqa: BLE001 (annotations of strangers may name anything)
        hint = parameters[0].annotation
    if hint is RunContext or getattr(hint, "__origin__", None) is RunContext:
        return True
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}
    ]
    return len(required) > 1


_known_to_take_context = lru_cache(maxsize=256)(_takes_context)


async def run_history_processors(
    processors: Sequence[Callable[..., Any]],
    state: GraphAgentState,
    deps: GraphAgentDeps[Any, Any],
    ctx: RunContext[Any],
) -> None:
    """Let the processors rewrite the history, in place, and find where the run's own messages begin in it now.

    Raises:
        UserError: what is left cannot be sent.
    """
    history = state.message_history
    before = history[:]
    messages = history[:]
    for processor in processors:
        result: Any = processor(ctx, messages) if processor_takes_context(processor) else processor(messages)
        if inspect.isawaitable(result):
            result = await result
        messages = result
    if not messages:
        raise UserError("Processed history cannot be empty.")
    if not isinstance(messages[-1], ModelRequest):
        raise UserError("Processed history must end with a `ModelRequest`.")
    if len(messages) == len(before) and all(a is b for a, b in zip(messages, before, strict=True)):
        return
    own = {id(message) for message in before[deps.new_message_index :]}
    start = next((index for index, message in enumerate(messages) if id(message) in own), None)
    if start is None:  # the processors made new messages: go by how many there are
        start = max(0, min(deps.new_message_index - len(before) + len(messages), len(messages)))
    history[:] = messages
    deps.new_message_index = start
    state.history_epoch += 1
