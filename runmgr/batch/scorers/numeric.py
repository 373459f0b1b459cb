"""``numeric``: the output is the target's number."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

__all__ = ("check_numeric_target", "numeric", "parse_number")

REL_TOLERANCE = 1e-6
ABS_TOLERANCE = 1e-9

_CURRENCY = "$€£¥"
# 1,234,567.5 with commas by threes, or without any; then .5, an exponent; a dot that ends a sentence; a per cent sign.
_NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?([eE][-+]?\d{1,4})?\.?%?", re.ASCII)


def parse_number(text: str) -> float | None:
    """The number that a text is: ``65,000``, ``18.``, ``-$1,234.50``, ``5%`` (five), ``1e3``; None if it is none.

    Commas that are not by threes (``1,23``) are dropped all the same, as is what else follows a number's last dot:
    a model's punctuation should not cost it the answer.
    """
    if text.isdecimal() and text.isascii():  # most are: no need to look closer
        value = float(text)
        return value if math.isfinite(value) else None
    text = text.strip().replace("\u2212", "-").replace("\u00a0", "")
    sign = text[:1] if text[:1] in "+-" else ""
    body = text[len(sign) :].strip().strip(_CURRENCY).strip()
    if body[:1] in ("+", "-"):
        if sign:
            return None
        sign, body = body[0], body[1:].strip()
    found = _NUMBER.fullmatch(sign + body) or _NUMBER.fullmatch(sign + body.replace(",", "").rstrip("."))
    if not found or (found[2] is None and found[3] is None):
        return None
    digits = "".join(part or "" for part in found.groups()).replace(",", "")
    try:
        value = float(Decimal(digits))
    except (InvalidOperation, OverflowError):
        return None
    return value if math.isfinite(value) else None


def numeric(output: str, target: str, rel: float = REL_TOLERANCE, absolute: float = ABS_TOLERANCE) -> float:
    """1 if both are numbers and the same within a relative 1e-6 (near zero: an absolute 1e-9).

    Args:
        output: what came.
        target: what is right.
        rel: the relative tolerance, of the larger of both.
        absolute: the absolute tolerance.
    """
    ours = parse_number(output)
    theirs = parse_number(target)
    if ours is None or theirs is None:
        return 0.0
    return float(math.isclose(ours, theirs, rel_tol=rel, abs_tol=absolute))


def check_numeric_target(target: str) -> str | None:
    """What is wrong with a target, or None."""
    if parse_number(target) is not None:
        return None
    shown = target if len(target) <= 60 else target[:60] + "..."
    return f"the target {shown!r} is no number, which scorer 'numeric' needs; take it out with --target-extract REGEX"
