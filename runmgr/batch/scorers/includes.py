"""``includes``: the output holds the target."""

from __future__ import annotations

__all__ = ("includes",)


def includes(output: str, target: str) -> float:
    """1 if the target stands somewhere in the output; case and white space around the target do not count."""
    return float(target.strip().casefold() in output.casefold())
