"""Agents: running them, driving a run step by step, streaming."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runmgr.agent.abstract import AbstractAgent, EventStreamHandler
from runmgr.agent.agent import Agent
from runmgr.agent.capture import capture_run_messages
from runmgr.agent.host import RunHost
from runmgr.agent.nodes import AgentNode, CallToolsNode, EndStrategy, ModelRequestNode, UserPromptNode
from runmgr.agent.outcome import AgentRunResult, AgentRunResultEvent
from runmgr.agent.result import FinalResult
from runmgr.agent.run import AgentRun
from runmgr.agent.state import GraphAgentDeps, GraphAgentState, build_run_context

if TYPE_CHECKING:
    from runmgr.agent.events import RunEvents
    from runmgr.agent.stream import AgentStream
    from runmgr.agent.streamed import StreamedRunResult
    from runmgr.agent.sync_stream import StreamedRunResultSync
    from runmgr.agent.wrapper import WrapperAgent
    from runmgr.models.instrumented import InstrumentationSettings

# Imported when they are asked for: most programs need none of them, and a batch starts sooner.
_LATER = {
    "AgentStream": "runmgr.agent.stream",
    "InstrumentationSettings": "runmgr.models.instrumented",
    "RunEvents": "runmgr.agent.events",
    "StreamedRunResult": "runmgr.agent.streamed",
    "StreamedRunResultSync": "runmgr.agent.sync_stream",
    "WrapperAgent": "runmgr.agent.wrapper",
}


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(module), name)
    return value


__all__ = (
    "AbstractAgent",
    "Agent",
    "AgentNode",
    "AgentRun",
    "AgentRunResult",
    "AgentRunResultEvent",
    "AgentStream",
    "CallToolsNode",
    "EndStrategy",
    "EventStreamHandler",
    "FinalResult",
    "GraphAgentDeps",
    "GraphAgentState",
    "InstrumentationSettings",
    "ModelRequestNode",
    "RunEvents",
    "RunHost",
    "StreamedRunResult",
    "StreamedRunResultSync",
    "UserPromptNode",
    "WrapperAgent",
    "build_run_context",
    "capture_run_messages",
)
