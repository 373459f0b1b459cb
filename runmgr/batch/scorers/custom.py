"""Scorers that users write: any callable, sync or async, found by ``module:name``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from runmgr.exceptions import UserError

__all__ = ("CustomScorer",)

_OFFERED = ("output", "target", "input", "outcome", "supervisor")


class CustomScorer:
    """A user's callable with its arguments worked out once.

    The callable is given those of ``output`` (after ``--extract``, if that is used), ``target`` (None where the batch has
    none), ``input`` (the prompt), ``outcome`` (the whole ``RunOutcome``) and ``supervisor`` (the batch's own: what an async scorer submits to it is
    limited, retried and accounted like any run) that its parameters name; one that names
    none of them gets ``(output, target)`` by position. It returns a number or a boolean, or None for "not scored".

    Args:
        name: its key in the results.
        function: sync (run in a worker thread) or async (run in the batch's event loop).
    """

    __slots__ = ("_function", "_names", "is_async", "name", "needs_target")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  an object whose __call__ is async
        )
        self._names = _wanted(name, function)
        self.needs_target = False

    @property
    def wants_supervisor(self) -> bool:
        """Whether it submits runs of its own."""
        return self._names is not None and "supervisor" in self._names

    def call(self, offered: Mapping[str, Any]) -> Any:
        """The callable's result, or its coroutine.

        Args:
            offered: the values of all five names.
        """
        if self._names is None:
            return self._function(offered["output"], offered["target"])
        return self._function(**{name: offered.get(name) for name in self._names})

    def checked(self, value: Any) -> float | None:
        """The result as a number.

        Raises:
            UserError: it is something else.
        """
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, str) or not math.isfinite(number):
            raise UserError(
                f"scorer {self.name!r} returned {value!r}; a finite number, a boolean or None is needed"
            )
        return number


def _wanted(name: str, function: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names to pass, or None to pass ``(output, target)`` by position."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    parameters = signature.parameters.values()
    named = [p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    wanted = tuple(n for n in _OFFERED if n in named or (takes_any and n != "supervisor"))
    try:
        if wanted:
            signature.bind(**dict.fromkeys(wanted))
            return wanted
        signature.bind(None, None)
    except TypeError as error:
        raise UserError(
            f"scorer {name!r} cannot be called: its parameters are {signature}, "
            f"and a scorer is given those of {', '.join(_OFFERED)} that it names, or else (output, target)"
        ) from error
    return None
