"""What providers say of their rate limits in answer headers. Pure.

Understood: OpenAI's and its imitators' ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` (reset as ``6m0s`` or seconds),
Anthropic's ``anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`` (reset as RFC 3339 time),
and the plain ``x-ratelimit-remaining``/``ratelimit-remaining`` with ``-reset`` in seconds from now, or since 1970 (OpenRouter:
in milliseconds).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from .retry import http_date

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
_EPOCH_MS = 1e11
"""A reset above this is one in milliseconds, as OpenRouter sends it."""


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
        now: the wall clock, for resets that are times; where the answer has a ``date``, the server's own clock goes first.
    """

    def clock() -> float:
        for name, value in headers:
            if len(name) == 4 and _text(name).lower() == "date":
                date = http_date(_text(value))
                return now() if date is None else date
        return now()

    found: dict[str, dict[str, str]] = {}
    for raw_name, raw_value in headers:
        if len(raw_name) < 15 or len(raw_name) > 46:
            continue
        name = _text(raw_name).lower()
        if "ratelimit-" not in name:
            continue
        value = _text(raw_value)
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
            quotas.append(
                Quota(kind, _number(said.get("limit")), remaining, _reset(said.get("reset"), clock))
            )
    return quotas


def _text(raw: bytes | str) -> str:
    return raw.decode("latin-1") if isinstance(raw, bytes) else raw


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
        if number <= _EPOCH:
            return number
        return max(0.0, (number / 1000 if number > _EPOCH_MS else number) - now())
    spans = _SPAN.findall(text)
    if spans and "".join(amount + unit for amount, unit in spans) == text:
        return sum(float(amount) * _UNITS[unit] for amount, unit in spans)
    try:
        due = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp() - now())
