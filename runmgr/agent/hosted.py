"""Starting a run that a host drives, where there is nothing to it: no block, and nothing to leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runmgr.agent.capture import claim_captured_messages
from runmgr.agent.planning import instrumentation_for
from runmgr.agent.run import AgentRun
from runmgr.agent.start import NO_LIMITS_GIVEN, first_node
from runmgr.agent.state import GraphAgentDeps, GraphAgentState
from runmgr.messages import UserContent
from runmgr.models import Model
from runmgr.settings import merge_model_settings
from runmgr.tools.types import AgentDepsT
from runmgr.usage import RunUsage, UsageLimits

if TYPE_CHECKING:
    from runmgr.agent.agent import Agent
    from runmgr.agent.host import RunHost

__all__ = ("start_hosted",)

_PLAIN_OPTIONS = frozenset({"deps", "model", "usage_limits"})
_AGENT_RUN: Any = AgentRun
_DEPS: Any = GraphAgentDeps
"""Without parameters: filling them in costs more than the call."""


def start_hosted(
    agent: Agent[AgentDepsT, Any],
    prompt: str | Sequence[UserContent] | None,
    host: RunHost,
    run_id: str,
    options: Mapping[str, Any] | None,
) -> AgentRun[AgentDepsT, Any] | None:
    """Start a run whose host is the current one already, where that opens nothing and asks nobody; None, and nothing is done, where
    it takes a `RunBlock`. What it starts has nothing to close.

    Args:
        agent: whose run it is.
        prompt: what the user says.
        host: drives and cancels the run.
        run_id: the run's id.
        options: as in `Agent.iter`.
    """
    deps: Any = None
    model = agent._model
    limits: UsageLimits | None = None
    if options is not None:
        if not options.keys() <= _PLAIN_OPTIONS:
            return None
        deps = options.get("deps")
        model = options.get("model") or model
        limits = options.get("usage_limits")
    plan = agent._plan
    if (
        plan is None
        or not plan.starts_plainly
        or not isinstance(model, Model)
        or agent._override() is not None
    ):
        return None
    if instrumentation_for(agent, model) is not None:
        return None
    settings = model.settings
    if plan.model_settings is not None:
        settings = merge_model_settings(settings, plan.model_settings)
    claimed = claim_captured_messages()
    state = GraphAgentState(
        message_history=[] if claimed is None else claimed, usage=RunUsage(), run_id=run_id
    )
    return _AGENT_RUN(
        state,
        # Without names: a class that is called with them makes a dict of them first.
        _DEPS(
            deps, prompt, 0, model, settings, limits or NO_LIMITS_GIVEN, plan, plan.toolset, state, host, True
        ),
        first_node(plan, prompt, None),
    )
