"""Questions about a history, and its form for sending; pure functions that leave their arguments as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from operator import is_

from runmgr.messages.codec import ModelMessage
from runmgr.messages.requests import ModelRequest, ModelRequestPart, RetryPromptPart, ToolReturnPart
from runmgr.messages.responses import ModelResponse, ToolCallPart
from runmgr.structs import replace

__all__ = (
    "last_request",
    "last_response",
    "merge_consecutive",
    "request_instructions",
    "unanswered_tool_calls",
)

# A request of nothing else was made by the agent and not by a person.
_ANSWERS = (ToolReturnPart, RetryPromptPart)
_ANSWER_KINDS = frozenset(part.part_kind for part in _ANSWERS)
_KINDS = frozenset((ModelRequest, ModelResponse))


def last_response(messages: Sequence[ModelMessage]) -> ModelResponse | None:
    """The latest response, or None."""
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            return message
    return None


def last_request(messages: Sequence[ModelMessage]) -> ModelRequest | None:
    """The latest request, or None."""
    for message in reversed(messages):
        if isinstance(message, ModelRequest):
            return message
    return None


def unanswered_tool_calls(messages: Sequence[ModelMessage]) -> list[ToolCallPart]:
    """The calls of the latest response that nothing after it answers, by a return or a request to try again.

    Calls of earlier responses are not looked at: a model that was asked again has given them up.
    """
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            return [call for call in message.tool_calls if call.tool_call_id not in answered]
        answered.update(part.tool_call_id for part in message.parts if isinstance(part, _ANSWERS))
    return []


def request_instructions(messages: Sequence[ModelMessage]) -> str | None:
    """The instructions that hold for the next request: those of the latest one in the history.

    A latest request that only answers tool calls and has none goes on under those of the request before it.
    """
    answers_only = False
    for message in reversed(messages):
        if (
            message.kind != "request"
        ):  # quicker than isinstance, which a metaclass makes slow where the answer is no
            continue
        if message.instructions is not None or answers_only:
            return message.instructions
        for part in message.parts:
            if part.part_kind not in _ANSWER_KINDS:
                return None
        answers_only = True
    return None


def merge_consecutive(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """A history in which requests and responses alternate as far as they can, as providers like it.

    Requests that follow each other become one, unless both have instructions and they differ; tool results come first
    in it, as their calls are what comes right before. Responses that follow each other become one only if no model
    wrote either of them, which is to say that they carry no model's or provider's name and no id. Merged requests keep
    a run's id, and metadata, only where both have the same. Merged messages are new; the others are the same objects.
    """
    kinds = list(map(type, messages))
    if _KINDS.issuperset(kinds) and not any(map(is_, kinds, islice(kinds, 1, None))):
        return list(messages)  # nearly all histories: nothing follows its like
    merged: list[ModelMessage] = []
    for message in messages:
        last = merged[-1] if merged else None
        if isinstance(message, ModelRequest) and isinstance(last, ModelRequest) and _agree(last, message):
            merged[-1] = replace(
                message,
                parts=_results_first([*last.parts, *message.parts]),
                instructions=last.instructions if message.instructions is None else message.instructions,
                timestamp=message.timestamp or last.timestamp,
                run_id=message.run_id if message.run_id == last.run_id else None,
                metadata=message.metadata if message.metadata == last.metadata else None,
            )
        elif (
            isinstance(message, ModelResponse) and isinstance(last, ModelResponse) and _made_up(last, message)
        ):
            merged[-1] = replace(last, parts=[*last.parts, *message.parts], usage=last.usage + message.usage)
        else:
            merged.append(message)
    return merged


def _agree(first: ModelRequest, second: ModelRequest) -> bool:
    return (
        first.instructions is None or second.instructions is None or first.instructions == second.instructions
    )


def _made_up(*responses: ModelResponse) -> bool:
    return all(
        response.model_name is None
        and response.provider_name is None
        and response.provider_response_id is None
        for response in responses
    )


def _results_first(parts: Iterable[ModelRequestPart]) -> list[ModelRequestPart]:
    # Sorting is stable: within results and within the rest the order stays.
    return sorted(parts, key=lambda part: not isinstance(part, _ANSWERS))
