"""Exception groups, taken apart in this one place."""

from __future__ import annotations

from typing import NoReturn

import trio

from runmgr.exceptions import RunmgrError

__all__ = ("has_cancelled", "not_cancelled", "raise_bare")


def has_cancelled(error: BaseException) -> bool:
    """Whether a cancellation is in it, alone or in a group. Such an exception must go up through its nursery."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)


def not_cancelled(error: BaseException) -> BaseException | None:
    """What is left of it without cancellations."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error


def raise_bare(group: BaseExceptionGroup[BaseException], *, internal: bool) -> NoReturn:
    """Raise what came out of a nursery as its user should see it.

    Nothing but cancellations: one of them, which belongs to a scope outside. An interrupt: itself. A task of ours that
    failed: `RunmgrError` from the group. Otherwise the block's own exception, out of the nursery's wrapping.
    """
    rest = group.split(trio.Cancelled)[1]
    if rest is None:
        raise _leaves(group)[0].with_traceback(None) from None
    leaves = _leaves(rest)
    for leaf in leaves:
        if not isinstance(leaf, Exception):
            raise leaf from group
    if internal:
        text = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves)
        raise RunmgrError(f"internal error in the supervisor, please report it: {text}") from group
    if len(group.exceptions) == 1:
        raise group.exceptions[0]
    raise group


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in _leaves(member)]
    return [error]
