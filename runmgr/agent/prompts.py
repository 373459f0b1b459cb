"""Instructions and system prompts: texts and the functions that make them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, cast

from runmgr.exceptions import UserError
from runmgr.tools.context import RunContext
from runmgr.tools.schema import is_async_callable
from runmgr.tools.types import AgentDepsT, SystemPromptFunc

__all__ = (
    "Instructions",
    "SystemPromptRunner",
    "call_with_context",
    "join_instructions",
    "split_instructions",
    "takes_context",
)

Instructions: TypeAlias = (
    str | SystemPromptFunc[AgentDepsT] | Sequence[str | SystemPromptFunc[AgentDepsT]] | None
)
"""What may be given as instructions: a text, a function that makes one, several of them, or nothing."""


@dataclass(slots=True)
class SystemPromptRunner(Generic[AgentDepsT]):
    """A function that makes a system prompt or instructions, and how it is called.

    Sync functions are called in the event loop's thread: they are meant to build a text. One that waits for something
    should be async.
    """

    function: SystemPromptFunc[AgentDepsT]
    dynamic: bool = False
    _takes_ctx: bool = field(init=False)
    _is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        self._takes_ctx = takes_context(self.function)
        self._is_async = is_async_callable(self.function)

    async def run(self, run_context: RunContext[AgentDepsT]) -> str | None:
        """The text, or None for none."""
        function: Callable[..., Any] = self.function
        result = function(run_context) if self._takes_ctx else function()
        if self._is_async or inspect.isawaitable(result):
            result = await result
        return cast("str | None", result)

    @property
    def ref(self) -> str:
        """The name under which a dynamic prompt is found again in a history."""
        return cast("str", getattr(self.function, "__qualname__", repr(self.function)))


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether a prompt function wants the run's context: it takes an argument."""
    try:
        return bool(inspect.signature(function).parameters)
    except ValueError:  # builtins without a signature
        return False


async def call_with_context(function: Callable[..., Any], *args: Any) -> Any:
    """Call a sync or async function."""
    result = function(*args)
    if inspect.isawaitable(result):
        return await result
    return result


def as_list(instructions: Instructions[Any]) -> Sequence[Any]:
    """Instructions one by one."""
    if instructions is None:
        return ()
    return (instructions,) if isinstance(instructions, str) or callable(instructions) else instructions


def split_instructions(
    *given: Instructions[Any],
) -> tuple[str | None, list[SystemPromptRunner[Any]]]:
    """Instructions as one constant text and the functions that make the rest.

    Raises:
        UserError: one is neither a text nor a function.
    """
    texts: list[str] = []
    runners: list[SystemPromptRunner[Any]] = []
    for instructions in given:
        for item in as_list(instructions):
            if isinstance(item, str):
                texts.append(item)
            elif callable(item):
                runners.append(SystemPromptRunner(cast("Any", item)))
            else:
                raise UserError(
                    f"Instructions are texts and functions, not {item!r}: Agent(instructions=['Be brief.', make_more])"
                )
    return "\n".join(texts).strip() or None, runners


async def join_instructions(
    text: str | None, runners: Sequence[SystemPromptRunner[Any]], ctx: RunContext[Any]
) -> str | None:
    """The instructions for one request: the constant text, then what the functions say now."""
    parts = [text] if text else []
    for runner in runners:
        more = await runner.run(ctx)
        if more:
            parts.append(more)
    return "\n\n".join(parts).strip() or None
