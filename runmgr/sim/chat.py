"""OpenAI's chat completions, seen from the provider's side: a request to an `Offer`, a `Plan` to JSON and chunks.

Source of the format: OpenAI API reference, "Chat Completions: create" and "streaming".
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from runmgr.models.sim_engine import Offer, Plan, PlannedCall
from runmgr.sim.http import BadRequest
from runmgr.sim.wire import Asked, Stamp, Wire, openai_error, openai_ratelimit, pick_tools

__all__ = ("CHAT",)

_encoder = msgspec.json.Encoder()


class ChatPart(msgspec.Struct):
    """A part of a message's content; only text is looked at."""

    text: str = ""


class ChatMessage(msgspec.Struct):
    """A message of the conversation."""

    role: str
    content: str | list[ChatPart] | None = None

    def text(self) -> str:
        """The text, parts joined."""
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content)
        return self.content or ""


class ChatFunction(msgspec.Struct):
    """A function that the model may call."""

    name: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class ChatTool(msgspec.Struct):
    """A tool; only functions are known."""

    function: ChatFunction | None = None


class StreamOptions(msgspec.Struct):
    """Options of a streamed answer."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    """As much of a request's body as the simulation looks at; other fields are ignored."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    tools: list[ChatTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_decoder = msgspec.json.Decoder(ChatRequest)


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
    wants_usage = request.stream_options is not None and request.stream_options.include_usage
    return Asked(offer_of(request), request.model, bool(request.stream), wants_usage)


def offer_of(request: ChatRequest) -> Offer:
    """What the engine looks at."""
    question, answered, words = "", 0, 0
    seen: list[str] = []
    for message in request.messages:
        text = message.text()
        if message.role == "user":
            question, answered = text, 0
        elif message.role == "tool":
            answered += 1
        seen.append(text)
        words += len(text.split())
    functions = [
        (tool.function.name, tool.function.parameters) for tool in request.tools or () if tool.function
    ]
    choice = request.tool_choice
    named = None
    if choice == "none":
        functions = []
    elif isinstance(choice, dict):
        named = cast("dict[str, Any]", choice.get("function") or {}).get("name")
    tools, output = pick_tools(functions, choice == "required", named)
    return Offer(
        question=question,
        digest_of="\0".join(seen).encode("utf-8", "surrogatepass"),
        input_tokens=words,
        answered=answered,
        tools=tools,
        output_tool=output,
        max_tokens=request.max_completion_tokens or request.max_tokens,
    )


def usage_of(plan: Plan, cached: int | None) -> dict[str, Any]:
    """The ``usage`` object."""
    usage: dict[str, Any] = {
        "prompt_tokens": plan.input_tokens,
        "completion_tokens": plan.output_tokens,
        "total_tokens": plan.input_tokens + plan.output_tokens,
    }
    return usage if cached is None else usage | {"prompt_tokens_details": {"cached_tokens": cached}}


def _tool_call(call: PlannedCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _finish(plan: Plan) -> str:
    return "tool_calls" if plan.call is not None else "length" if plan.cut else "stop"


def completion(plan: Plan, stamp: Stamp) -> bytes:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": plan.text}
    if plan.call is not None:
        message["tool_calls"] = [_tool_call(call) for call in plan.calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(plan)}
    return _encoder.encode(
        {
            "id": f"chatcmpl-{stamp.number}",
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": [choice],
            "usage": usage_of(plan, stamp.cached),
        }
    )


def chunks(plan: Plan, stamp: Stamp, usage: bool) -> tuple[list[bytes], bytes]:
    """A streamed answer as server-sent events: one a token, and what follows the last token in one piece."""
    base: dict[str, Any] = {
        "id": f"chatcmpl-{stamp.number}",
        "object": "chat.completion.chunk",
        "created": stamp.created,
        "model": stamp.model,
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
            event(
                ({} if number else {"role": "assistant", "content": None})
                | {"tool_calls": [{"index": number, **_tool_call(call)}]}
            )
            for number, call in enumerate(plan.calls)
        ]
    tail = event({}, _finish(plan))
    if usage:
        data: dict[str, Any] = {**base, "choices": [], "usage": usage_of(plan, stamp.cached)}
        tail += b"data: " + _encoder.encode(data) + b"\n\n"
    return tokens, tail + b"data: [DONE]\n\n"


CHAT = Wire(decode=decode, whole=completion, events=chunks, error=openai_error, ratelimit=openai_ratelimit)
