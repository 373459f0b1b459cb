"""A response as OpenAI's chat completions write it, whole or in server-sent events. Pure.

Source of the format: OpenAI API reference, "Chat Completions: create" and "streaming".
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from runmgr.exceptions import UserError
from runmgr.messages import ModelResponse, TextPart, ToolCallPart

__all__ = ("completion", "events")

_encode = msgspec.json.Encoder().encode
_REASONS = {"length": "length", "content_filter": "content_filter"}


def completion(response: ModelResponse, *, number: int, model: str, created: int) -> bytes:
    """A whole answer."""
    text, calls = _content(response)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(response)}
    return _encode(
        {**_base(number, model, created, "chat.completion"), "choices": [choice], "usage": _usage(response)}
    )


def events(
    response: ModelResponse, *, number: int, model: str, created: int, rng: random.Random
) -> list[bytes]:
    """A streamed answer, event by event, its text and arguments cut where ``rng`` says."""
    text, calls = _content(response)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in _cut(text or "", rng)]
    for index, call in enumerate(calls):
        function = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, **call, "function": function}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in _cut(call["function"]["arguments"], rng)
        ]
    base = _base(number, model, created, "chat.completion.chunk")
    choices: list[list[dict[str, Any]]] = [
        [{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas
    ]
    choices.append([{"index": 0, "delta": {}, "finish_reason": _reason(response)}])
    chunks = [{**base, "choices": each} for each in choices]
    chunks.append({**base, "choices": [], "usage": _usage(response)})
    return [b"data: " + _encode(chunk) + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


def _content(response: ModelResponse) -> tuple[str | None, list[dict[str, Any]]]:
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in response.parts:
        if isinstance(part, TextPart):
            texts.append(part.content)
        elif isinstance(part, ToolCallPart):
            function = {"name": part.tool_name, "arguments": part.args_as_json_str()}
            calls.append({"id": part.tool_call_id, "type": "function", "function": function})
        else:
            raise UserError(
                f"the simulated network carries text and tool calls, not a {type(part).__name__}: give simulate(network=False)"
            )
    return ("".join(texts) if texts else None), calls


def _reason(response: ModelResponse) -> str:
    calls = any(isinstance(part, ToolCallPart) for part in response.parts)
    return _REASONS.get(response.finish_reason or "", "tool_calls" if calls else "stop")


def _usage(response: ModelResponse) -> dict[str, int]:
    inputs, outputs = response.usage.input_tokens, response.usage.output_tokens
    return {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}


def _base(number: int, model: str, created: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": created, "model": model}


def _cut(text: str, rng: random.Random) -> list[str]:
    pieces: list[str] = []
    while text:
        size = rng.randint(1, max(1, len(text)))
        pieces.append(text[:size])
        text = text[size:]
    return pieces
