"""One run, at one moment."""

from __future__ import annotations

from typing import Any

import msgspec

from .outcomes import RunState

__all__ = ("RunStatistics",)


class RunStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What `RunHandle.statistics` gives: cheap, and only what is known anyway."""

    run_id: str
    state: RunState
    group: str
    attempts: int
    steps: int
    """Nodes done, in all attempts of this process."""
    node: str | None
    """The node that it is at; None before its start and after its end."""
    queued_seconds: float
    """Before it had its first place."""
    running_seconds: float
    """Since then; until its end, where it has ended."""
    usage: Any
    """`RunUsage`, with that of its children."""
    messages: int
    """In its history."""
    mail: int
    """User messages that wait for its next model request."""
    children: int
    """Runs that it submitted and that have not ended."""
    has_place: bool
    """Whether it holds one of ``max_running``."""
