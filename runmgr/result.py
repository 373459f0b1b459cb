"""Results that come in a stream, under the name that Pydantic AI gives their module."""

from __future__ import annotations

from typing_extensions import TypeVar

from runmgr.agent import AgentStream, FinalResult, StreamedRunResult, StreamedRunResultSync
from runmgr.output import (
    NativeOutput,
    OutputDataT,
    OutputValidatorFunc,
    PromptedOutput,
    TextOutput,
    ToolOutput,
)
from runmgr.tools import AgentDepsT, RunContext

OutputDataT_inv = TypeVar("OutputDataT_inv", default=str)
"""The type of an output, where it is both given and taken."""

__all__ = (
    "AgentDepsT",
    "AgentStream",
    "FinalResult",
    "NativeOutput",
    "OutputDataT",
    "OutputDataT_inv",
    "OutputValidatorFunc",
    "PromptedOutput",
    "RunContext",
    "StreamedRunResult",
    "StreamedRunResultSync",
    "TextOutput",
    "ToolOutput",
)
