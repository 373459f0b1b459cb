"""Figures as people read them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

__all__ = ("count", "dollars", "duration", "percent", "plural", "printable", "score", "tokens")


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def count(number: float) -> str:
    """``12,345``, or ``1.23M`` from ten million on."""
    return f"{number:,.0f}" if number < 10_000_000 else f"{number / 1e6:,.2f}M"


def plural(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def dollars(cost: Decimal | float | None) -> str:
    """``$0.0123``; ``unknown`` for None, which is not zero."""
    if cost is None:
        return "unknown"
    if 0 < cost < 0.001:
        return f"${cost:.6f}"
    return f"${cost:,.2f}" if cost >= 100 else f"${cost:.4f}"


def duration(seconds: float | None) -> str:
    """``80 ms``, ``1.5 s``, ``12 s``, ``3:05``, ``1:02:03``; ``-`` for None."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def percent(share: float) -> str:
    """``56.25 %``."""
    return f"{share * 100:.2f} %"


def score(mean: float | None, stderr: float | None) -> str:
    """``0.5625 +- 0.0137``."""
    if mean is None:
        return "-"
    return f"{mean:.4f}" + (f" ± {stderr:.4f}" if stderr is not None else "")


def tokens(usage: dict[str, Any]) -> str:
    """``12,345 in, 678 out``."""
    return f"{count(usage.get('input_tokens', 0))} in, {count(usage.get('output_tokens', 0))} out"


def printable(words: str) -> str:
    """What a terminal can be given: control characters of a model's text, which could steer it, as their escapes."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", words)
