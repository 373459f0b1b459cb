"""Exception groups, taken apart in this one place."""

from __future__ import annotations

from typing import NoReturn, cast

import trio

from runmgr.exceptions import RunmgrError

__all__ = ("has_cancelled", "leaves_of", "not_cancelled", "raise_bare")


def has_cancelled(error: BaseException) -> bool:
    """Whether a cancellation is in it, alone or in a group. Such an exception must go up through its nursery."""
    return any(isinstance(leaf, trio.Cancelled) for leaf in leaves_of(error))


def not_cancelled(error: BaseException) -> BaseException | None:
    """What is left of it without cancellations."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error


def raise_bare(group: BaseExceptionGroup[BaseException], *, internal: bool) -> NoReturn:
    """Raise what came out of a nursery as its user should see it.

    Nothing but cancellations: one of them, which belongs to a scope outside. An interrupt: itself. A task of ours that
    failed: `RunmgrError` from the group. Otherwise the block's own exception, out of the nursery's wrapping.
    """
    rest = group.split(trio.Cancelled)[1]
    if rest is None:
        raise leaves_of(group)[0].with_traceback(None) from None
    leaves = leaves_of(rest)
    for leaf in leaves:
        if not isinstance(leaf, Exception):
            raise leaf from group
    if internal:
        text = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves)
        raise RunmgrError(f"internal error in the supervisor, please report it: {text}") from group
    if len(group.exceptions) == 1:
        raise group.exceptions[0]
    raise group


def leaves_of(error: BaseException) -> list[BaseException]:
    """The exceptions that are no groups, in order."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for member in group.exceptions for leaf in leaves_of(member)]
    return [error]
