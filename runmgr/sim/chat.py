"""OpenAI's chat completions, seen from the provider's side: a request to an `Offer`, a `Plan` to JSON and chunks.

Source of the format: OpenAI API reference, "Chat Completions: create" and "streaming".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runmgr.models.sim_engine import Offer, Plan
from runmgr.sim.http import BadRequest

__all__ = ("chunks", "completion", "offer_of")

_encoder = msgspec.json.Encoder()


def offer_of(body: Any) -> Offer:
    """What the engine looks at.

    Raises:
        BadRequest: ``model`` or ``messages`` is missing or of the wrong kind; says which.
    """
    if not isinstance(body, dict):
        raise BadRequest("the body is not an object")
    fields: dict[str, Any] = body  # pyright: ignore[reportUnknownVariableType]
    messages: Any = fields.get("messages")
    if not isinstance(fields.get("model"), str):
        raise BadRequest("'model' is missing or not a string")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' is missing or not a list with at least one message")
    question, answered, words = "", 0, 0
    seen: list[str] = []
    for message in messages:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):  # pyright: ignore[reportUnknownMemberType]
            raise BadRequest("a message is not an object with a 'role'")
        text = _text(message.get("content"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if message["role"] == "user":
            question, answered = text, 0
        elif message["role"] == "tool":
            answered += 1
        seen.append(text)
        words += len(text.split())
    functions: list[tuple[str, Mapping[str, Any]]] = []
    for tool in fields.get("tools") or []:
        function = tool.get("function") or {}
        functions.append((function.get("name", ""), function.get("parameters") or {}))
    choice = fields.get("tool_choice")
    output = None
    if choice == "none":
        functions = []
    elif choice == "required" or isinstance(choice, dict):
        wanted: Any = choice["function"]["name"] if isinstance(choice, dict) else None
        output = next((one for one in reversed(functions) if wanted is None or one[0] == wanted), None)
    return Offer(
        question=question,
        digest_of="\0".join(seen).encode("utf-8", "surrogatepass"),
        input_tokens=words,
        answered=answered,
        tools=tuple(one for one in functions if one != output),
        output_tool=output,
        max_tokens=fields.get("max_completion_tokens") or fields.get("max_tokens"),
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts: list[Any] = content
        return " ".join(part.get("text") or "" for part in parts if isinstance(part, dict))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]
    return content if isinstance(content, str) else ""


def usage_of(plan: Plan) -> dict[str, int]:
    """The ``usage`` object."""
    return {
        "prompt_tokens": plan.input_tokens,
        "completion_tokens": plan.output_tokens,
        "total_tokens": plan.input_tokens + plan.output_tokens,
    }


def _tool_calls(plan: Plan, *, indexed: bool) -> list[dict[str, Any]]:
    if plan.call is None:
        return []
    function = {"name": plan.call.name, "arguments": plan.call.arguments}
    call: dict[str, Any] = {"id": plan.call.id, "type": "function", "function": function}
    return [{"index": 0, **call}] if indexed else [call]


def _finish(plan: Plan) -> str:
    return "tool_calls" if plan.call is not None else "length" if plan.cut else "stop"


def completion(plan: Plan, *, number: int, model: str, created: int) -> bytes:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": plan.text}
    if plan.call is not None:
        message["tool_calls"] = _tool_calls(plan, indexed=False)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(plan)}
    return _encoder.encode(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": usage_of(plan),
        }
    )


def chunks(
    plan: Plan, *, number: int, model: str, created: int, usage: bool
) -> tuple[list[bytes], list[bytes]]:
    """A streamed answer as server-sent events: one a token, and what follows the last token in one piece."""
    base: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
    }

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + _encoder.encode({**base, "choices": [choice]}) + b"\n\n"

    if plan.text is not None:
        words = plan.text.split(" ")
        tokens = [event({"role": "assistant", "content": words[0]})]
        if len(words) > 1:
            # one template a stream: only the token differs from event to event
            before, after = event({"content": "\0"}).split(_encoder.encode("\0"))
            tokens += [before + _encoder.encode(" " + word) + after for word in words[1:]]
    else:
        tokens = [
            event({"role": "assistant", "content": None, "tool_calls": _tool_calls(plan, indexed=True)})
        ]
    tail = event({}, _finish(plan))
    if usage:
        tail += b"data: " + _encoder.encode({**base, "choices": [], "usage": usage_of(plan)}) + b"\n\n"
    return tokens, [tail + b"data: [DONE]\n\n"]
