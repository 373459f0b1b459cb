"""What a tool returned, as parts of the next request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from runmgr.exceptions import UserError
from runmgr.messages import (
    BinaryContent,
    FileUrl,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

__all__ = ("tool_return_parts",)

_FILES = (BinaryContent, FileUrl)
_PLAIN = frozenset({str, int, float, bool, type(None), dict})


def tool_return_parts(call: ToolCallPart, value: Any) -> tuple[ToolReturnPart, UserPromptPart | None]:
    """The return part for a tool's result, and the user prompt that carries what a return part cannot.

    Files among the result (it is one, or a list with some) go into the prompt, under the identifier that stands in
    their place in the result. A ``ToolReturn`` says itself what goes where.

    Raises:
        UserError: a ``ToolReturn`` is nested, or holds files in ``return_value``.
    """
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in _PLAIN:  # what nearly every tool returns
        return ToolReturnPart(call.tool_name, value, call.tool_call_id), None
    if kind is ToolReturn:
        return _explicit(call, cast("ToolReturn", value))
    prompt: list[UserContent] = []
    content: Any
    if kind is list or kind is tuple:
        items = cast("Sequence[Any]", value)
        if any(isinstance(item, ToolReturn) for item in items):
            raise UserError(
                f"The return value of tool {call.tool_name!r} contains invalid nested `ToolReturn` objects. "
                "`ToolReturn` should be used directly."
            )
        if any(isinstance(item, _FILES) for item in items):
            content = [_stand_in(item, prompt) for item in items]
        else:
            content = value
    else:
        content = _stand_in(value, prompt)
    part = ToolReturnPart(call.tool_name, content, call.tool_call_id)
    return part, UserPromptPart(prompt) if prompt else None


def _stand_in(item: Any, prompt: list[UserContent]) -> Any:
    if not isinstance(item, _FILES):
        return item
    identifier = item.identifier
    prompt.append(f"This is file {identifier}:")
    prompt.append(cast("Any", item))
    return f"See file {identifier}"


def _explicit(call: ToolCallPart, value: ToolReturn) -> tuple[ToolReturnPart, UserPromptPart | None]:
    result: Any = value.return_value
    items = cast("Sequence[Any]", result) if isinstance(result, (list, tuple)) else (result,)
    if any(isinstance(item, _FILES) for item in items):
        raise UserError(
            f"The `return_value` of tool {call.tool_name!r} contains invalid nested `MultiModalContent` objects. "
            "Please use `content` instead."
        )
    if any(isinstance(item, ToolReturn) for item in items):
        raise UserError(
            f"The return value of tool {call.tool_name!r} contains invalid nested `ToolReturn` objects. "
            "`ToolReturn` should be used directly."
        )
    part = ToolReturnPart(call.tool_name, result, call.tool_call_id, metadata=value.metadata)
    content = value.content
    if not content:
        return part, None
    return part, UserPromptPart(content if isinstance(content, str) else list(content))
