"""What providers say of their rate limits in answer headers. Pure.

Understood: OpenAI's and its imitators' ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` (reset as ``6m0s`` or seconds),
Anthropic's ``anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`` (reset as RFC 3339 time),
and the plain ``x-ratelimit-remaining``/``ratelimit-remaining`` with ``-reset`` in seconds from now, or since 1970.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

__all__ = ("Quota", "rate_headers")

_ANTHROPIC = re.compile(
    r"anthropic-ratelimit-(requests|tokens|input-tokens|output-tokens)-(limit|remaining|reset)"
)
_OPENAI = re.compile(
    r"(?:x-)?ratelimit-(limit|remaining|reset)(?:-(requests|tokens|input-tokens|output-tokens))?"
)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h|d)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH = 1e9
"""A reset above this is a time since 1970 and no span."""


class Quota(NamedTuple):
    """One of a provider's limits, as an answer tells of it."""

    kind: str
    """``requests``, ``tokens``, ``input_tokens`` or ``output_tokens``."""
    limit: float | None
    remaining: float
    reset: float | None
    """Seconds until it is whole again."""


def rate_headers(
    headers: Iterable[tuple[bytes, bytes]] | Iterable[tuple[str, str]],
    *,
    now: Callable[[], float] = time.time,
) -> list[Quota]:
    """The limits that headers tell of; those without a ``remaining`` are left out, and so is nonsense.

    Args:
        headers: names and values, as bytes or text.
        now: the wall clock, for resets that are times.
    """
    found: dict[str, dict[str, str]] = {}
    for raw_name, raw_value in headers:
        if len(raw_name) < 15 or len(raw_name) > 46:
            continue
        name = raw_name.decode("latin-1") if isinstance(raw_name, bytes) else raw_name
        name = name.lower()
        if "ratelimit-" not in name:
            continue
        value = raw_value.decode("latin-1") if isinstance(raw_value, bytes) else raw_value
        if (match := _ANTHROPIC.fullmatch(name)) is not None:
            kind, what = match[1], match[2]
        elif (match := _OPENAI.fullmatch(name)) is not None:
            kind, what = match[2] or "requests", match[1]
        else:
            continue
        found.setdefault(kind.replace("-", "_"), {})[what] = value.strip()
    quotas: list[Quota] = []
    for kind, said in found.items():
        remaining = _number(said.get("remaining"))
        if remaining is not None:
            quotas.append(Quota(kind, _number(said.get("limit")), remaining, _reset(said.get("reset"), now)))
    return quotas


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _reset(text: str | None, now: Callable[[], float]) -> float | None:
    if text is None:
        return None
    number = _number(text)
    if number is not None:
        return max(0.0, number - now()) if number > _EPOCH else number
    spans = _SPAN.findall(text)
    if spans and "".join(amount + unit for amount, unit in spans) == text:
        return sum(float(amount) * _UNITS[unit] for amount, unit in spans)
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now())
    except ValueError:
        return None
