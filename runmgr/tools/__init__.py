"""Tools: the context of a run, functions that models may call, and their schemas."""

from runmgr.records.definitions import ObjectJsonSchema, ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.deferred import (
    DeferredToolApprovalResult,
    DeferredToolCallResult,
    DeferredToolRequests,
    DeferredToolResults,
    ToolApproved,
    ToolDenied,
)
from runmgr.tools.jsonschema import GenerateToolJsonSchema
from runmgr.tools.schema import FunctionSchema
from runmgr.tools.threads import ToolThreads, tool_threads
from runmgr.tools.tool import Tool
from runmgr.tools.types import (
    AgentDepsT,
    BuiltinToolFunc,
    DocstringFormat,
    SystemPromptFunc,
    ToolAgentDepsT,
    ToolFuncContext,
    ToolFuncEither,
    ToolFuncPlain,
    ToolParams,
    ToolPrepareFunc,
    ToolsPrepareFunc,
)

__all__ = (
    "AgentDepsT",
    "BuiltinToolFunc",
    "DeferredToolApprovalResult",
    "DeferredToolCallResult",
    "DeferredToolRequests",
    "DeferredToolResults",
    "DocstringFormat",
    "FunctionSchema",
    "GenerateToolJsonSchema",
    "ObjectJsonSchema",
    "RunContext",
    "SystemPromptFunc",
    "Tool",
    "ToolAgentDepsT",
    "ToolApproved",
    "ToolDefinition",
    "ToolDenied",
    "ToolFuncContext",
    "ToolFuncEither",
    "ToolFuncPlain",
    "ToolParams",
    "ToolPrepareFunc",
    "ToolThreads",
    "ToolsPrepareFunc",
    "tool_threads",
)
