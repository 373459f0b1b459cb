"""Tool calls whose results come from outside the run, or that a person approves first.

Requests and results often cross a network between two runs: ``pydantic.TypeAdapter`` dumps and loads both, in Pydantic
AI's format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import Discriminator, PlainSerializer, PlainValidator, TypeAdapter

from runmgr.exceptions import ModelRetry
from runmgr.messages import RetryPromptPart, ToolCallPart, ToolReturn

__all__ = (
    "DeferredToolApprovalResult",
    "DeferredToolCallResult",
    "DeferredToolRequests",
    "DeferredToolResults",
    "ToolApproved",
    "ToolDenied",
)


@dataclass(kw_only=True)
class DeferredToolRequests:
    """The output of a run that waits for others: tool calls to answer or approve.

    Args:
        calls: calls whose results come from outside.
        approvals: calls that a person must approve.
        metadata: by call id, what ``CallDeferred`` or ``ApprovalRequired`` was raised with.
    """

    calls: list[ToolCallPart] = field(default_factory=list[ToolCallPart])
    approvals: list[ToolCallPart] = field(default_factory=list[ToolCallPart])
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])


@dataclass(kw_only=True)
class ToolApproved:
    """The call may run.

    Args:
        override_args: run it with these arguments instead of the model's.
        kind: tells this class from others in JSON.
    """

    override_args: dict[str, Any] | None = None
    kind: Literal["tool-approved"] = "tool-approved"


@dataclass
class ToolDenied:
    """The call may not run.

    Args:
        message: what the model is told instead of a result.
        kind: tells this class from others in JSON.
    """

    message: str = "The tool call was denied."
    kind: Literal["tool-denied"] = field(default="tool-denied", kw_only=True)


DeferredToolApprovalResult: TypeAlias = ToolApproved | ToolDenied
"""A person's decision on a call."""

DeferredToolCallResult: TypeAlias = ToolReturn | ModelRetry | RetryPromptPart
"""What may stand in for a plain value as a call's result."""


def _load_result(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    found = cast("dict[str, Any]", value)
    match found.get("part_kind") or found.get("kind"):
        case "tool-return":
            return TypeAdapter(ToolReturn).validate_python(found)
        case "retry-prompt":
            return TypeAdapter(RetryPromptPart).validate_python(found)
        case "model-retry":
            return ModelRetry(found["message"])
        case _:
            return found


def _dump_result(value: Any) -> Any:
    if isinstance(value, ModelRetry):
        return {"message": value.message, "kind": "model-retry"}
    if isinstance(value, ToolReturn | RetryPromptPart):
        return TypeAdapter[Any](type(value)).dump_python(value, mode="json")
    return value


_Result: TypeAlias = Annotated[Any, PlainValidator(_load_result), PlainSerializer(_dump_result)]
_Decision: TypeAlias = bool | Annotated[DeferredToolApprovalResult, Discriminator("kind")]


@dataclass(kw_only=True)
class DeferredToolResults:
    """Answers to ``DeferredToolRequests``, to start the next run with.

    Args:
        calls: results by call id: a value, a ``ToolReturn``, a ``ModelRetry`` or a ``RetryPromptPart``.
        approvals: decisions by call id: True or ``ToolApproved()``, False or ``ToolDenied('why')``.
        metadata: by call id, what the tool finds in ``ctx.tool_call_metadata``.
    """

    calls: dict[str, _Result] = field(default_factory=dict[str, Any])
    approvals: dict[str, _Decision] = field(default_factory=dict[str, bool | DeferredToolApprovalResult])
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
