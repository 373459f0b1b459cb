"""Anthropic's messages, seen from the provider's side.

Source of the format: Anthropic API reference, "Messages", "Streaming messages" and "Errors", "Rate limits" (headers).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from runmgr.models.sim_engine import Offer, Plan
from runmgr.sim.http import BadRequest
from runmgr.sim.responses import text_of
from runmgr.sim.wire import Asked, Stamp, Wire, pick_tools, sse

__all__ = ("MESSAGES",)

_encoder = msgspec.json.Encoder()


class AnthropicMessage(msgspec.Struct):
    """A message of the conversation."""

    role: str
    content: str | list[dict[str, Any]]


class AnthropicTool(msgspec.Struct):
    """A tool of the client's; the provider's own have no schema and are not simulated."""

    name: str
    input_schema: dict[str, Any] | None = None


class AnthropicRequest(msgspec.Struct):
    """As much of a request's body as the simulation looks at."""

    model: str
    messages: list[AnthropicMessage]
    max_tokens: int
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = False
    tools: list[AnthropicTool] | None = None
    tool_choice: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(AnthropicRequest)


def decode(body: bytes) -> Asked:
    """Read a request's body.

    Raises:
        BadRequest: it is not JSON, or a field is missing or of the wrong kind; says which.
    """
    try:
        request = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(str(error)) from None
    if not request.messages:
        raise BadRequest("`$.messages` is empty")
    question, answered = "", 0
    seen = [text_of(request.system)]
    for message in request.messages:
        blocks = message.content
        text = text_of(blocks)
        results = (
            [block for block in blocks if block.get("type") == "tool_result"]
            if isinstance(blocks, list)
            else []
        )
        if results:
            answered += len(results)
            text = " ".join([*(text_of(cast("Any", block.get("content"))) for block in results), text])
        elif message.role == "user":
            question, answered = text, 0
        seen.append(text)
    functions = [
        (tool.name, tool.input_schema) for tool in request.tools or () if tool.input_schema is not None
    ]
    choice = request.tool_choice or {}
    kind = choice.get("type")
    tools, output = pick_tools(
        [] if kind == "none" else cast("Any", functions),
        kind == "any",
        cast("str | None", choice.get("name")) if kind == "tool" else None,
    )
    offer = Offer(
        question=question,
        digest_of="\0".join(seen).encode("utf-8", "surrogatepass"),
        input_tokens=sum(len(text.split()) for text in seen),
        answered=answered,
        tools=tools,
        output_tool=output,
        max_tokens=request.max_tokens,
    )
    return Asked(offer, request.model, bool(request.stream))


def _usage(plan: Plan, stamp: Stamp, output: int) -> dict[str, int]:
    """Cached tokens are no part of ``input_tokens`` here."""
    return {
        "input_tokens": plan.input_tokens - (stamp.cached or 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": stamp.cached or 0,
        "output_tokens": output,
    }


def _stop(plan: Plan) -> str:
    return "tool_use" if plan.call is not None else "max_tokens" if plan.cut else "end_turn"


def _arguments(text: str) -> Any:
    """A plain answer has arguments as a value; what a script wrote badly goes out as a text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _message(plan: Plan, stamp: Stamp, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{stamp.number}",
        "type": "message",
        "role": "assistant",
        "model": stamp.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": _usage(plan, stamp, plan.output_tokens if stop else 1),
    }


def whole(plan: Plan, stamp: Stamp) -> bytes:
    """A plain answer."""
    content: list[dict[str, Any]] = (
        [{"type": "text", "text": plan.text}]
        if plan.text is not None
        else [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call.arguments)}
            for call in plan.calls
        ]
    )
    return _encoder.encode(_message(plan, stamp, content, _stop(plan)))


def events(plan: Plan, stamp: Stamp, _usage_too: bool) -> tuple[list[bytes], bytes]:
    """A streamed answer: what precedes the first token is in its piece."""
    tokens: list[bytes] = []
    head = sse("message_start", {"message": _message(plan, stamp, [], None)})
    if plan.text is not None:
        head += sse("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        head += sse("ping", {})
        tokens = [
            sse("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}})
            for word in _pieces(plan.text)
        ]
        tail = sse("content_block_stop", {"index": 0})
    else:
        tail = b""
        for index, call in enumerate(plan.calls):
            block: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": call.arguments}
            tokens.append(
                sse("content_block_start", {"index": index, "content_block": block})
                + sse("content_block_delta", {"index": index, "delta": delta})
                + sse("content_block_stop", {"index": index})
            )
    tokens[0] = head + tokens[0]
    tail += sse(
        "message_delta",
        {
            "delta": {"stop_reason": _stop(plan), "stop_sequence": None},
            "usage": {"output_tokens": plan.output_tokens},
        },
    )
    return tokens, tail + sse("message_stop", {})


def _pieces(text: str) -> list[str]:
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]


_KINDS = {
    400: "invalid_request_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


def error(status: int, message: str, _code: str) -> dict[str, Any]:
    """Anthropic's form of an error."""
    return {"type": "error", "error": {"type": _KINDS.get(status, "api_error"), "message": message}}


def ratelimit(what: str, limit: int, remaining: int, reset: float) -> dict[str, str]:
    """Anthropic's headers: the reset is a time of day."""
    moment = (datetime.now(UTC) + timedelta(seconds=reset)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        f"anthropic-ratelimit-{what}-limit": str(limit),
        f"anthropic-ratelimit-{what}-remaining": str(remaining),
        f"anthropic-ratelimit-{what}-reset": moment,
    }


MESSAGES = Wire(decode=decode, whole=whole, events=events, error=error, ratelimit=ratelimit)
