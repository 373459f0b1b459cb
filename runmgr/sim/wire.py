"""What the formats of providers have in common, seen from the provider's side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from runmgr.models.sim_engine import Offer, Plan

__all__ = ("Asked", "Stamp", "Wire", "openai_error", "pick_tools", "sse")

Tool = tuple[str, Mapping[str, Any]]


@attrs.frozen
class Asked:
    """A request that was understood.

    Args:
        offer: what the engine looks at.
        model: the model's name as it was asked for.
        stream: whether the answer is streamed.
        usage: whether a stream ends with its usage.
    """

    offer: Offer
    model: str
    stream: bool
    usage: bool = True


@attrs.frozen
class Stamp:
    """What is written on an answer besides its content.

    Args:
        number: of the request.
        model: the name that was asked for.
        created: seconds since 1970.
        cached: prompt tokens that were cached; None where there is no cache.
    """

    number: int
    model: str
    created: int
    cached: int | None = None


@attrs.frozen(kw_only=True)
class Wire:
    """A format.

    Args:
        decode: a request's body; raises `runmgr.sim.http.BadRequest`.
        whole: a plain answer.
        events: a streamed answer: an event a token (what precedes the first is in its piece), and what follows the last.
        error: the body of an error: its status, a sentence and OpenAI's code for it.
        ratelimit: how the headers of rate limits are named.
    """

    decode: Callable[[bytes], Asked]
    whole: Callable[[Plan, Stamp], bytes]
    events: Callable[[Plan, Stamp, bool], tuple[list[bytes], bytes]]
    error: Callable[[int, str, str], dict[str, Any]]
    ratelimit: Callable[[str, int, int, float], dict[str, str]]


def openai_error(_status: int, message: str, code: str) -> dict[str, Any]:
    """OpenAI's form of an error."""
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


def openai_ratelimit(what: str, limit: int, remaining: int, reset: float) -> dict[str, str]:
    """OpenAI's headers: ``what`` is ``requests`` or ``tokens``, ``reset`` in seconds."""
    return {
        f"x-ratelimit-limit-{what}": str(limit),
        f"x-ratelimit-remaining-{what}": str(remaining),
        f"x-ratelimit-reset-{what}": f"{reset:.3f}".rstrip("0").rstrip(".") + "s",
    }


def pick_tools(
    tools: Sequence[Tool], required: bool, named: str | None
) -> tuple[tuple[Tool, ...], Tool | None]:
    """The function tools, and the output tool where a tool must be called: the one that is named, or the last."""
    output = None
    if named is not None:
        output = next((tool for tool in tools if tool[0] == named), None)
    elif required and tools:
        output = tools[-1]
    return tuple(tool for tool in tools if tool is not output), output


def sse(kind: str, value: dict[str, Any]) -> bytes:
    """A named server-sent event."""
    data = json.dumps({"type": kind, **value}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()
