"""Model settings from the command line: ``--set KEY=VALUE``, typed by what the model takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_type_hints

from typing_extensions import is_typeddict

from runmgr.exceptions import UserError

__all__ = ("known_settings", "parse_assignments", "typed_settings")


def parse_assignments(words: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as a dict; a later one wins.

    Raises:
        UserError: a word has no ``=`` or no key.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {word}: write it as KEY=VALUE, e.g. --set temperature=0")
        found[key.strip()] = value
    return found


def known_settings(model: Any) -> dict[str, Any]:
    """The settings that a model takes, with their types: the common ones and those of its own module."""
    from runmgr.settings import ModelSettings

    known = get_type_hints(ModelSettings) | {"timeout": float}  # an httpx2.Timeout cannot be written as text
    for kind in type(model).__mro__:
        module = sys.modules.get(kind.__module__)
        for name, value in vars(module).items() if module else ():
            if name.endswith("Settings") and is_typeddict(value):
                try:
                    known |= get_type_hints(value)
                except NameError:  # a type that only a type checker can see: left unchecked
                    known |= dict.fromkeys(value.__annotations__, Any)
    return known


def typed_settings(values: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Settings with values of the types that the model takes: ``"0"`` becomes 0.0 for ``temperature``.

    Text is read as JSON where that fits the type (``stop_sequences=["END"]``), else as it is.

    Raises:
        UserError: an unknown key (names the nearest known one), or a value of another type.
    """
    if not values:
        return {}
    from pydantic import TypeAdapter, ValidationError

    known = known_settings(model)
    typed: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(
                f"--set {key}={value}: no such model setting{hint} Known are {', '.join(sorted(known))}"
            )
        adapter: TypeAdapter[Any] = TypeAdapter(known[key], config={"arbitrary_types_allowed": True})
        problem: ValidationError | None = None
        for candidate in _readings(value):
            try:
                typed[key] = adapter.validate_python(candidate)
                break
            except ValidationError as error:
                problem = problem or error
        else:
            assert problem is not None
            raise UserError(f"--set {key}={value}: {problem.errors()[0]['msg']}")
    return typed


def _readings(value: Any) -> list[Any]:
    """What a text may mean: the JSON value that it is, then the text."""
    if not isinstance(value, str):
        return [value]
    try:
        return [json.loads(value), value]
    except ValueError:
        return [value]
