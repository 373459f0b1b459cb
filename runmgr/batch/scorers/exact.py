"""``exact``: the output is the target."""

from __future__ import annotations

__all__ = ("exact",)


def exact(output: str, target: str) -> float:
    """1 if both are the same text, white space around them aside; case counts."""
    return float(output.strip() == target.strip())
