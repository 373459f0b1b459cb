"""Service levels: ``ttft=200ms,itl.p95=50ms,goodput=95%``."""

from __future__ import annotations

import re
from typing import Literal

import attrs

from runmgr.exceptions import UserError

__all__ = ("Objective", "parse_seconds", "parse_slo")

Measure = Literal["ttft", "itl", "tpot", "e2e", "goodput", "errors"]
_TIMES = ("ttft", "itl", "tpot", "e2e")
_SHARES = ("goodput", "errors")
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)\s*(us|ms|s|m)?")
_SHARE = re.compile(r"([0-9]*\.?[0-9]+)\s*(%)?")
_SCALE = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_FORM = "ttft=200ms,itl=50ms (also tpot, e2e; ttft.p95=200ms for another percentile than the 99th; goodput=95%; errors=1%)"


@attrs.frozen
class Objective:
    """One service level.

    Args:
        measure: what it is about.
        limit: seconds, or a share for ``goodput`` (at least) and ``errors`` (at most).
        percentile: which one of all requests must keep the limit; failed requests count as slower than any limit.
    """

    measure: Measure
    limit: float
    percentile: float = 99.0

    @property
    def name(self) -> str:
        """As it is called in ``summary.json``."""
        return self.measure if self.measure in _SHARES else f"{self.measure}_p{self.percentile:g}"


def parse_seconds(text: str, what: str) -> float:
    """A duration with its unit: ``200ms``, ``0.2s``, ``2m``.

    Raises:
        UserError: it is none; names ``what``.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not match[2]:
        raise UserError(f"{what}: {text.strip()!r} is no duration with its unit; write 200ms or 0.2s")
    return float(match[1]) * _SCALE[match[2]]


def parse_slo(text: str) -> tuple[Objective, ...]:
    """Read ``--slo``.

    Raises:
        UserError: says which part is wrong and what there is.
    """
    found: list[Objective] = []
    for word in text.split(","):
        key, sign, value = (part.strip() for part in word.partition("="))
        name, dot, percentile = key.partition(".")
        if not sign or not value or name not in (*_TIMES, *_SHARES):
            raise UserError(f"--slo {text}: {word.strip()!r} is none; write {_FORM}")
        if name in _SHARES:
            match = _SHARE.fullmatch(value)
            share = -1.0 if match is None else float(match[1]) / (100 if match[2] else 1)
            if dot or not 0 <= share <= 1:
                raise UserError(f"--slo {text}: {word.strip()!r} is no share; write {name}=95%")
            found.append(Objective(name, share))  # pyright: ignore[reportArgumentType]
            continue
        rank = 99.0
        if dot:
            try:
                rank = float(percentile.removeprefix("p"))
            except ValueError:
                rank = -1.0
            if not percentile.startswith("p") or not 0 < rank <= 100:
                raise UserError(f"--slo {text}: {key!r}: a percentile is written {name}.p95")
        found.append(Objective(name, parse_seconds(value, f"--slo {text}"), rank))  # pyright: ignore[reportArgumentType]
    return tuple(found)
