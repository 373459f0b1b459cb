"""Results that come in a stream, under the name that Pydantic AI gives their module."""

from __future__ import annotations

from runmgr.agent import AgentStream, FinalResult, StreamedRunResult, StreamedRunResultSync
from runmgr.output import NativeOutput, OutputDataT, PromptedOutput, TextOutput, ToolOutput
from runmgr.tools import AgentDepsT, RunContext

__all__ = (
    "AgentDepsT",
    "AgentStream",
    "FinalResult",
    "NativeOutput",
    "OutputDataT",
    "PromptedOutput",
    "RunContext",
    "StreamedRunResult",
    "StreamedRunResultSync",
    "TextOutput",
    "ToolOutput",
)
