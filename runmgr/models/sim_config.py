"""What a simulated model does: latencies, lengths and failures, from a seed; and the short text that says it.

``sim:ttft=200ms,itl=lognormal(10ms,0.3),tokens=uniform(20,80),fail=1%,seed=7`` is one such text: ``KEY=VALUE`` pairs,
separated by commas outside brackets.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Literal

import msgspec

from runmgr.exceptions import UserError

__all__ = ("FAULTS", "Distribution", "Fault", "SimConfig", "parse_distribution", "parse_sim")

Shape = Literal["constant", "uniform", "normal", "exp", "lognormal"]
Fault = Literal["429", "500", "503", "disconnect", "truncate", "garbage", "hang"]
FAULTS: tuple[Fault, ...] = ("429", "500", "503", "disconnect", "truncate", "garbage", "hang")

_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "m": 60.0, "%": 1e-2, "k": 1e3}
_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)(s|ms|us|m|%|k)?")
_SHAPE = re.compile(r"([a-z]+)\((.*)\)")
_ARGUMENTS: dict[str, tuple[int, str]] = {
    "uniform": (2, "uniform(LOW,HIGH)"),
    "normal": (2, "normal(MEAN,SD)"),
    "exp": (1, "exp(MEAN)"),
    "lognormal": (2, "lognormal(MEDIAN,SIGMA)"),
}
_WAYS_OUT = "a number with a unit (200ms, 0.2s, 40) or one of " + ", ".join(
    form for _, form in _ARGUMENTS.values()
)


class Distribution(msgspec.Struct, frozen=True, gc=False):
    """A distribution to draw from by inversion, so that a draw is a function of one uniform number.

    Args:
        shape: which; ``lognormal`` has median ``a`` and the standard deviation ``b`` of its logarithm.
        a: constant value, low end, mean or median.
        b: high end, standard deviation or sigma.
    """

    shape: Shape = "constant"
    a: float = 0.0
    b: float = 0.0

    def draw(self, u: float) -> float:
        """The quantile at ``u`` in [0, 1), never below zero."""
        match self.shape:
            case "constant":
                return self.a
            case "uniform":
                return self.a + (self.b - self.a) * u
            case "exp":
                return -self.a * math.log1p(-u)
            case "normal":
                return max(0.0, self.a + self.b * _standard_normal(u))
            case "lognormal":
                return self.a * math.exp(self.b * _standard_normal(u))

    @property
    def mean(self) -> float:
        """The mean (of a normal: before it is cut at zero)."""
        match self.shape:
            case "uniform":
                return (self.a + self.b) / 2
            case "lognormal":
                return self.a * math.exp(self.b * self.b / 2)
            case _:
                return self.a


def _standard_normal(u: float) -> float:
    """The standard normal quantile; ``statistics.NormalDist.inv_cdf`` (Wichura's AS241) inside its open interval."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(min(max(u, 1e-12), 1 - 1e-12))


class SimConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A simulated model.

    Args:
        ttft: seconds from the request to the first token.
        itl: seconds between tokens.
        tokens: length of an answer in tokens (a token is a word here); a request's ``max_tokens`` cuts it.
        calls: tool calls that a run makes before it answers, one a turn, where the request offers function tools.
        fail: share of requests that meet a fault.
        faults: which faults, drawn with equal chance.
        hang: seconds that the fault ``hang`` stays silent before the connection ends.
        seed: of every draw. Lengths, times and texts depend on the seed and the request's content alone, faults on the
            order of requests too, so that a resent request does not meet the same fault for ever.
        wrong: share of known questions (``answers``) that are answered wrongly.
    """

    ttft: Distribution = Distribution()
    itl: Distribution = Distribution()
    tokens: Distribution = Distribution(a=16.0)
    calls: int = 0
    fail: float = 0.0
    faults: tuple[Fault, ...] = ("429", "500", "503", "disconnect")
    hang: float = 30.0
    seed: int = 0
    wrong: float = 0.0


def parse_number(text: str, what: str) -> float:
    """A number with an optional unit (s, ms, us, m, %, k): seconds, a share or a count.

    Raises:
        UserError: it is none; names ``what``.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise UserError(f"{what}: {text!r} is not a number; write {_WAYS_OUT}")
    return float(match[1]) * _UNITS[match[2] or ""]


def parse_distribution(text: str, what: str) -> Distribution:
    """A number, or ``uniform(a,b)``, ``normal(mean,sd)``, ``exp(mean)``, ``lognormal(median,sigma)``.

    Raises:
        UserError: it is none of these; names ``what``.
    """
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        return Distribution(a=parse_number(text, what))
    shape, inner = match[1], [part for part in match[2].split(",") if part.strip()]
    if shape not in _ARGUMENTS or len(inner) != _ARGUMENTS[shape][0]:
        raise UserError(f"{what}: {text!r} is not a distribution; write {_WAYS_OUT}")
    numbers = [parse_number(part, what) for part in inner]
    if shape == "uniform" and numbers[0] > numbers[1]:
        raise UserError(f"{what}: {text!r} has its low end above its high end")
    return Distribution(shape, *numbers)  # pyright: ignore[reportArgumentType]


def parse_sim(text: str) -> SimConfig:
    """The configuration that ``sim:TEXT`` stands for; an empty text is an instant model of 16-token answers.

    Raises:
        UserError: an unknown key (with the nearest known one) or a value that is not of its kind.
    """
    values: dict[str, object] = {}
    for pair in re.split(r",(?![^(]*\))", text):
        if not pair.strip():
            continue
        key, equals, value = (piece.strip() for piece in pair.partition("="))
        what = f"simulated model, {key}"
        if not equals or key not in SimConfig.__struct_fields__:
            near = difflib.get_close_matches(key, SimConfig.__struct_fields__, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            known = ", ".join(f"{name}=" for name in SimConfig.__struct_fields__)
            raise UserError(
                f"simulated model: {pair.strip()!r} is not KEY=VALUE with a known key{hint} (known: {known})"
            )
        values[key] = _value(key, value, what)
    return SimConfig(**values)  # pyright: ignore[reportArgumentType]


def _value(key: str, text: str, what: str) -> object:
    if key in {"ttft", "itl", "tokens"}:
        return parse_distribution(text, what)
    if key == "faults":
        faults = tuple(text.replace("|", "+").split("+"))
        for fault in faults:
            if fault not in FAULTS:
                raise UserError(f"{what}: {fault!r} is not a fault; known, joined by +: {', '.join(FAULTS)}")
        return faults
    number = parse_number(text, what)
    if key in {"fail", "wrong"} and number > 1:
        raise UserError(f"{what}: {text!r} is more than the whole; write a share (0.01) or a percentage (1%)")
    if key in {"calls", "seed"}:
        if number != int(number):
            raise UserError(f"{what}: {text!r} is not a whole number")
        return int(number)
    return number
