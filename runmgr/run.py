"""The run of an agent and what it ends in, under the name that Pydantic AI gives their module."""

from __future__ import annotations

from runmgr.agent import AgentRun, AgentRunResult, AgentRunResultEvent

__all__ = ("AgentRun", "AgentRunResult", "AgentRunResultEvent")
