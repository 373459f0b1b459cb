"""OpenAI's responses, seen from the provider's side.

Source of the format: OpenAI API reference, "Responses: create" and "streaming events".
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from runmgr.models.sim_engine import Offer, Plan
from runmgr.sim.http import BadRequest
from runmgr.sim.wire import Asked, Stamp, Wire, openai_error, openai_ratelimit, pick_tools, sse

__all__ = ("RESPONSES",)

_encoder = msgspec.json.Encoder()


class ResponsesItem(msgspec.Struct):
    """An item of the input: a message, a call, or a call's result."""

    type: str = "message"
    role: str = "user"
    content: str | list[dict[str, Any]] | None = None
    output: str | list[dict[str, Any]] | None = None
    arguments: str = ""


class ResponsesTool(msgspec.Struct):
    """A tool; only functions are known."""

    type: str = "function"
    name: str = ""
    parameters: dict[str, Any] | None = None


class ResponsesRequest(msgspec.Struct):
    """As much of a request's body as the simulation looks at."""

    model: str
    input: str | list[ResponsesItem]
    instructions: str | None = None
    stream: bool | None = False
    tools: list[ResponsesTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_output_tokens: int | None = None


_decoder = msgspec.json.Decoder(ResponsesRequest)


def text_of(content: str | list[dict[str, Any]] | None) -> str:
    """The text of a content, parts joined."""
    if isinstance(content, list):
        return " ".join(str(part["text"]) for part in content if isinstance(part.get("text"), str))
    return content or ""


def decode(body: bytes) -> Asked:
    """Read a request's body.

    Raises:
        BadRequest: it is not JSON, or a field is missing or of the wrong kind; says which.
    """
    try:
        request = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(str(error)) from None
    items = [ResponsesItem(content=request.input)] if isinstance(request.input, str) else request.input
    if not items:
        raise BadRequest("`$.input` is empty")
    question, answered = "", 0
    seen = [request.instructions or ""]
    for item in items:
        text = text_of(item.content)
        if item.type == "function_call_output":
            text = text_of(item.output)
            answered += 1
        elif item.type == "function_call":
            text = ""  # as chat completions: calls are counted where they were made
        elif item.role == "user":
            question, answered = text, 0
        seen.append(text)
    functions = [
        (tool.name, tool.parameters or {}) for tool in request.tools or () if tool.type == "function"
    ]
    choice = request.tool_choice
    named = cast("str | None", choice.get("name")) if isinstance(choice, dict) else None
    tools, output = pick_tools([] if choice == "none" else functions, choice == "required", named)
    offer = Offer(
        question=question,
        digest_of="\0".join(seen).encode("utf-8", "surrogatepass"),
        input_tokens=sum(len(text.split()) for text in seen),
        answered=answered,
        tools=tools,
        output_tool=output,
        max_tokens=request.max_output_tokens,
    )
    return Asked(offer, request.model, bool(request.stream))


def _items(plan: Plan, stamp: Stamp) -> list[dict[str, Any]]:
    if plan.text is not None:
        part: dict[str, Any] = {"type": "output_text", "text": plan.text, "annotations": [], "logprobs": []}
        return [
            {
                "type": "message",
                "id": f"msg_{stamp.number}",
                "status": "completed",
                "role": "assistant",
                "content": [part],
            }
        ]
    return [
        {
            "type": "function_call",
            "id": f"fc_{stamp.number}_{number}",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        for number, call in enumerate(plan.calls)
    ]


def _response(plan: Plan, stamp: Stamp, status: str) -> dict[str, Any]:
    done = status != "in_progress"
    usage = {
        "input_tokens": plan.input_tokens,
        "input_tokens_details": {"cached_tokens": stamp.cached or 0},
        "output_tokens": plan.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": plan.input_tokens + plan.output_tokens,
    }
    return {
        "id": f"resp_{stamp.number}",
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "model": stamp.model,
        "output": _items(plan, stamp) if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": 1.0,
        "top_p": 1.0,
        "metadata": {},
        "usage": usage if done else None,
    }


def _status(plan: Plan) -> str:
    return "incomplete" if plan.cut else "completed"


def whole(plan: Plan, stamp: Stamp) -> bytes:
    """A plain answer."""
    return _encoder.encode(_response(plan, stamp, _status(plan)))


class _Numbered:
    """Events with their numbers."""

    def __init__(self) -> None:
        self._number = -1

    def __call__(self, kind: str, **value: Any) -> bytes:
        self._number += 1
        return sse(kind, {"sequence_number": self._number, **value})


def events(plan: Plan, stamp: Stamp, _usage: bool) -> tuple[list[bytes], bytes]:
    """A streamed answer: what precedes the first token is in its piece."""
    event = _Numbered()
    tokens: list[bytes] = []
    begun = _response(plan, stamp, "in_progress")
    head = event("response.created", response=begun) + event("response.in_progress", response=begun)
    items = _items(plan, stamp)
    if plan.text is not None:
        (item,) = items
        place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        empty: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        started: dict[str, Any] = item | {"content": [], "status": "in_progress"}
        head += event("response.output_item.added", output_index=0, item=started)
        head += event("response.content_part.added", **place, part=empty)
        words = plan.text.split(" ")
        tokens = [
            event(
                "response.output_text.delta",
                **place,
                delta=f" {word}" if number else word,
                logprobs=[],
            )
            for number, word in enumerate(words)
        ]
        tail = event("response.output_text.done", **place, text=plan.text, logprobs=[])
        tail += event("response.content_part.done", **place, part=item["content"][0])
        tail += event("response.output_item.done", output_index=0, item=item)
    else:
        tail = b""
        for index, item in enumerate(items):
            place = {"item_id": item["id"], "output_index": index}
            started = item | {"arguments": "", "status": "in_progress"}
            tokens.append(
                event("response.output_item.added", output_index=index, item=started)
                + event("response.function_call_arguments.delta", **place, delta=item["arguments"])
                + event("response.function_call_arguments.done", **place, arguments=item["arguments"])
                + event("response.output_item.done", output_index=index, item=item)
            )
    tokens[0] = head + tokens[0]
    status = _status(plan)
    tail += event(f"response.{status}", response=_response(plan, stamp, status))
    return tokens, tail


RESPONSES = Wire(decode=decode, whole=whole, events=events, error=openai_error, ratelimit=openai_ratelimit)
