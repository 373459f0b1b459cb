"""What to run: one item of `Supervisor.map`, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

__all__ = ("RunSpec",)


@attrs.frozen(kw_only=True, eq=False)
class RunSpec:
    """One run to submit; what is None is taken from the call of `Supervisor.map`.

    Args:
        prompt: what the user says: text or a list of content parts.
        run_id: the run's identity; a run with this id that is live, remembered or finished in the journal is not run
            again. Made up when left out.
        input: what the outcome shows as its input; the prompt when left out.
        agent: another agent than the map's.
        group: runs of a group share places fairly with those of other groups.
        priority: higher goes first.
        timeout: seconds from the start of the run.
        deadline: seconds from submission.
        metadata: kept in the outcome and the journal.
        fingerprint: what else the run depends on (agent, model, settings), for the journal.
        deps, model, model_settings, message_history, usage_limits, deferred_tool_results, toolsets, output_type,
            instructions: as in `Agent.iter`.
        budget: what this run may spend, instead of the supervisor's ``run_budget``.
        cache_salt: answers are shared through the supervisor's cache only between runs of equal salt (epochs have each their own).
    """

    prompt: Any = None
    run_id: str | None = None
    input: Any = None
    agent: Any = None
    group: str | None = None
    priority: int | None = None
    timeout: float | None = None
    deadline: float | None = None
    metadata: dict[str, Any] | None = None
    fingerprint: str | None = None
    deps: Any = None
    model: Any = None
    model_settings: Any = None
    message_history: Sequence[Any] | None = None
    usage_limits: Any = None
    deferred_tool_results: Any = None
    toolsets: Sequence[Any] | None = None
    output_type: Any = None
    instructions: Any = None
    budget: Any = None
    cache_salt: Any = None


AGENT_OPTIONS = (
    "deps",
    "model",
    "model_settings",
    "message_history",
    "usage_limits",
    "deferred_tool_results",
    "toolsets",
    "output_type",
    "instructions",
    "budget",
    "cache_salt",
)
"""The fields of `RunSpec` that go on to the job: to `Agent.iter` all but the last two."""
