"""Histories: what a run continues from, and what history processors make of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from operator import is_
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from runmgr.exceptions import UserError
from runmgr.messages import (
    ModelMessage,
    ModelRequest,
    SystemPromptPart,
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
    "prompt_of",
    "run_history_processors",
    "with_fresh_dynamic_prompts",
)

HistoryProcessor: TypeAlias = (
    Callable[[list[ModelMessage]], list[ModelMessage]]
    | Callable[[list[ModelMessage]], Awaitable[list[ModelMessage]]]
    | Callable[[RunContext[AgentDepsT], list[ModelMessage]], list[ModelMessage]]
    | Callable[[RunContext[AgentDepsT], list[ModelMessage]], Awaitable[list[ModelMessage]]]
)
"""Makes the history that is sent, and kept, from the one so far. Sync ones are called in the event loop's thread."""


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
    if len(messages) == len(before) and all(map(is_, messages, before)):
        return
    own = {id(message) for message in before[deps.new_message_index :]}
    start = next((index for index, message in enumerate(messages) if id(message) in own), None)
    if start is None:  # the processors made new messages: go by how many there are
        start = max(0, min(deps.new_message_index - len(before) + len(messages), len(messages)))
    history[:] = messages
    deps.new_message_index = start
    state.history_epoch += 1
