"""The one call of an async function, as most responses with calls want it: without a context, and in no coroutine but the function's.

Whatever else there is to a call (several at once, a context, a time limit, an approval, somebody who listens, a failure that is to be
counted) is in `runmgr.agent.calls`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from runmgr.agent.state import GraphAgentDeps
from runmgr.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolRetryError
from runmgr.messages import ToolCallPart

if TYPE_CHECKING:
    from runmgr.toolsets.abstract import ToolsetTool

__all__ = ("FAILURES", "direct_tool")

FAILURES = (ValidationError, ModelRetry, ToolRetryError, CallDeferred, ApprovalRequired)
"""What `handle_tool_calls` knows how to go on from, of what a call raises."""


def direct_tool(deps: GraphAgentDeps[Any, Any], calls: Sequence[ToolCallPart]) -> ToolsetTool[Any] | None:
    """The tool of the one call, where calling it is validating its arguments and awaiting a function; None where there is more to it."""
    tools = deps.tools
    if (
        tools is None
        or len(calls) != 1
        or not deps.plan.calls_directly
        or deps.plan.instructions_functions
        or deps.usage_limits.tool_calls_limit is not None
        or deps.instrumentation_settings is not None
    ):
        return None
    tool = tools.get(calls[0].tool_name)
    if (
        tool is None
        or tool.direct is None
        or tool.toolset is not deps.toolset
        or tool.tool_def.kind != "function"
    ):
        return None
    return tool
