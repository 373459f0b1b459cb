"""How a command was called."""

from __future__ import annotations

import attrs

__all__ = ("Invocation",)


@attrs.frozen
class Invocation:
    """How a command was called.

    Args:
        words: what stood after ``runmgr``.
        own_process: whether the process does nothing else, so that the command may tune it.
    """

    words: list[str]
    own_process: bool
