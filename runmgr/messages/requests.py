"""Messages to the model, and their parts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal, TypeAlias, cast

from msgspec import field

from runmgr.messages.base import MessageValue, Observed
from runmgr.messages.clock import now_utc
from runmgr.messages.content import UserContent
from runmgr.messages.ids import generate_tool_call_id

__all__ = (
    "BaseToolReturnPart",
    "ModelRequest",
    "ModelRequestPart",
    "RetryPromptPart",
    "SystemPromptPart",
    "ToolReturnPart",
    "UserPromptPart",
)

# msgspec's `kw_only` is a property of a class: the positional fields of a part are those of a base of its own.
# `gc=False` is only for parts that nothing of the user's can be reached from; a tool's result can hold anything.


class _Text(Observed, tag_field="part_kind", gc=False):
    content: str


class SystemPromptPart(_Text, kw_only=True, tag="system-prompt", gc=False):
    """A system prompt: written by the developer, context and rules for the model.

    Args:
        content: the text.
        timestamp: when it was made.
        dynamic_ref: the system prompt function to ask again when a run continues from this history.
    """

    part_kind: ClassVar[Literal["system-prompt"]] = "system-prompt"

    timestamp: datetime = field(default_factory=now_utc)
    dynamic_ref: str | None = None


class _Prompt(Observed, tag_field="part_kind", gc=False):
    content: str | list[UserContent]


class UserPromptPart(_Prompt, kw_only=True, tag="user-prompt", gc=False):
    """What the user says: a text, or a list of texts and files.

    Args:
        content: the prompt.
        timestamp: when it was made.
    """

    part_kind: ClassVar[Literal["user-prompt"]] = "user-prompt"

    timestamp: datetime = field(default_factory=now_utc)


class _ToolReturn(Observed, tag_field="part_kind"):
    tool_name: str
    content: Any
    tool_call_id: str = field(default_factory=generate_tool_call_id)


class BaseToolReturnPart(_ToolReturn, kw_only=True):
    """What the two kinds of tool returns have in common."""

    metadata: Any = None
    timestamp: datetime = field(default_factory=now_utc)

    def model_response_str(self) -> str:
        """The result as text for the model: a string as it is, anything else as JSON."""
        content = self.content
        if isinstance(content, str):
            return content
        from runmgr.messages.codec import dump_any

        return dump_any(content).decode()

    def model_response_object(self) -> dict[str, Any]:
        """The result as an object for the model: a mapping as it is, anything else under ``return_value``."""
        from runmgr.messages.codec import any_to_plain

        plain = any_to_plain(self.content)
        return cast("dict[str, Any]", plain) if isinstance(plain, dict) else {"return_value": plain}

    def has_content(self) -> bool:
        """Whether there is a result at all."""
        return self.content is not None


class ToolReturnPart(BaseToolReturnPart, kw_only=True, tag="tool-return"):
    """The result of a tool call, on its way to the model.

    Args:
        tool_name: the tool.
        content: what it returned.
        tool_call_id: the id of the call.
        metadata: for the program; the model does not see it.
        timestamp: when the tool returned.
    """

    part_kind: ClassVar[Literal["tool-return"]] = "tool-return"


class _Retry(Observed, tag_field="part_kind"):
    content: str | list[dict[str, Any]]


class RetryPromptPart(_Retry, kw_only=True, tag="retry-prompt"):
    """Asks the model to try again: a tool's arguments or an output did not validate, or ``ModelRetry`` was raised.

    Args:
        content: what is wrong: a text, or pydantic's list of error details.
        tool_name: the tool whose call failed, if it was one.
        tool_call_id: the id of that call.
        timestamp: when it failed.
    """

    part_kind: ClassVar[Literal["retry-prompt"]] = "retry-prompt"

    tool_name: str | None = None
    tool_call_id: str = field(default_factory=generate_tool_call_id)
    timestamp: datetime = field(default_factory=now_utc)

    def __post_init__(self) -> None:
        # Places in error details are tuples, as pydantic gives them, after a way through JSON too.
        if type(self.content) is list:
            for detail in self.content:
                if type(place := detail.get("loc")) is list:
                    detail["loc"] = tuple(place)  # pyright: ignore[reportUnknownArgumentType]

    def model_response(self) -> str:
        """The text for the model: what is wrong, and the request to fix it."""
        content = self.content
        if isinstance(content, str):
            # A tool's call says by itself what failed; loose feedback needs a heading.
            described = content if self.tool_name is not None else f"Validation feedback:\n{content}"
        else:
            from runmgr.messages.codec import dump_error_details

            errors = "1 validation error" if len(content) == 1 else f"{len(content)} validation errors"
            described = f"{errors}:\n```json\n{dump_error_details(content)}\n```"
        return f"{described}\n\nFix the errors and try again."


ModelRequestPart: TypeAlias = SystemPromptPart | UserPromptPart | ToolReturnPart | RetryPromptPart


class _Parts(MessageValue, tag_field="kind"):
    parts: list[ModelRequestPart]


class ModelRequest(_Parts, kw_only=True, tag="request"):
    """A message to the model: prompts, tool results, requests to try again.

    Args:
        parts: what it says.
        timestamp: when it was sent; None before that.
        instructions: the agent's instructions for this request; unlike system prompts they are not kept from request
            to request.
        run_id: the run that made it.
        metadata: for the program; the model does not see it.
    """

    kind: ClassVar[Literal["request"]] = "request"

    timestamp: datetime | None = None
    instructions: str | None = None
    run_id: str | None = None
    metadata: dict[str, Any] | None = None

    @classmethod
    def user_text_prompt(cls, user_prompt: str, *, instructions: str | None = None) -> ModelRequest:
        """A request with one user prompt that is a text."""
        return cls([UserPromptPart(user_prompt)], instructions=instructions)
