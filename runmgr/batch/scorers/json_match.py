"""``json``: the output's JSON, or what is at a path in it, is the target."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from runmgr.exceptions import UserError

__all__ = ("JsonMatch", "find_json", "parse_path")

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")
_MISSING = object()


def parse_path(path: str) -> tuple[str | int, ...]:
    """``answer.items[0].name`` (a leading ``$`` does no harm) as steps.

    Raises:
        UserError: it is no path.
    """
    rest = path.strip().removeprefix("$")
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None:
            raise UserError(f"--scorer json: path={path}: write it as answer.items[0].name")
        steps.append(found[1] if found[1] is not None else int(found[2]))
        at = found.end()
    return tuple(steps)


def find_json(text: str) -> Any:
    """The JSON value that a text is, or holds in a fenced block, or begins with at its first brace or bracket.

    Raises:
        ValueError: there is none.
    """
    text = text.strip()
    try:
        return json.loads(text)
    except ValueError:
        pass
    for block in reversed(_FENCED.findall(text)):
        try:
            return json.loads(block)
        except ValueError:
            continue
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        raise ValueError("no JSON in it")
    return json.JSONDecoder().raw_decode(text, min(starts))[0]


class JsonMatch:
    """1 if the value at the path of the output is the target; numbers within a relative 1e-9, texts without white space
    around them, objects and arrays element by element. 0 where the output is no JSON or has no such path.

    Args:
        path: where to look in the output; empty is the whole.
        target_path: where to look in the target, if that is JSON.
    """

    def __init__(self, path: str = "", target_path: str = "") -> None:
        self._path = parse_path(path)
        self._target_path = parse_path(target_path)

    def __call__(self, output: str, target: str) -> float:
        try:
            found = _at(find_json(output), self._path)
        except (ValueError, RecursionError):
            return 0.0
        try:
            wanted: Any = json.loads(target)
        except ValueError:
            wanted = target
        wanted = _at(wanted, self._target_path)
        if found is _MISSING or wanted is _MISSING:
            return 0.0
        if isinstance(found, str) and not isinstance(wanted, str) and not self._target_path:
            wanted = target  # "12" beside a target column that is text
        return float(_same(found, wanted))


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        if isinstance(step, int) and isinstance(value, list):
            if not -len(value) <= step < len(value):  # pyright: ignore[reportUnknownArgumentType]
                return _MISSING
            value = value[step]  # pyright: ignore[reportUnknownVariableType]
        elif isinstance(value, dict) and step in value:
            value = value[step]  # pyright: ignore[reportUnknownVariableType]
        else:
            return _MISSING
    return value  # pyright: ignore[reportUnknownVariableType]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9)
    if isinstance(one, str) and isinstance(other, str):
        return one.strip() == other.strip()
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)  # pyright: ignore[reportUnknownVariableType]
    return one is None and other is None
