"""runmgr: a run manager for LLM agents on trio.

The names below are imported when they are first used, so that ``import runmgr`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from runmgr.agent import (
        Agent as Agent,
        AgentRun as AgentRun,
        AgentRunResult as AgentRunResult,
        AgentRunResultEvent as AgentRunResultEvent,
        CallToolsNode as CallToolsNode,
        EndStrategy as EndStrategy,
        InstrumentationSettings as InstrumentationSettings,
        ModelRequestNode as ModelRequestNode,
        UserPromptNode as UserPromptNode,
        capture_run_messages as capture_run_messages,
    )
    from runmgr.builtin_tools import (
        CodeExecutionTool as CodeExecutionTool,
        FileSearchTool as FileSearchTool,
        ImageGenerationTool as ImageGenerationTool,
        MCPServerTool as MCPServerTool,
        MemoryTool as MemoryTool,
        UrlContextTool as UrlContextTool,
        WebFetchTool as WebFetchTool,
        WebSearchTool as WebSearchTool,
        WebSearchUserLocation as WebSearchUserLocation,
    )
    from runmgr.exceptions import (
        AgentRunError as AgentRunError,
        ApprovalRequired as ApprovalRequired,
        BudgetExhausted as BudgetExhausted,
        CallDeferred as CallDeferred,
        ContentFilterError as ContentFilterError,
        FallbackExceptionGroup as FallbackExceptionGroup,
        IncompleteToolCall as IncompleteToolCall,
        JournalError as JournalError,
        MalformedResponseError as MalformedResponseError,
        ModelAPIError as ModelAPIError,
        ModelConnectionError as ModelConnectionError,
        ModelHTTPError as ModelHTTPError,
        ModelRetry as ModelRetry,
        ModelTimeoutError as ModelTimeoutError,
        RunCancelled as RunCancelled,
        RunEnded as RunEnded,
        RunFailed as RunFailed,
        SupervisorClosed as SupervisorClosed,
        TooManyFailures as TooManyFailures,
        UnexpectedModelBehavior as UnexpectedModelBehavior,
        UsageLimitExceeded as UsageLimitExceeded,
        UserError as UserError,
    )
    from runmgr.format_prompt import (
        format_as_xml as format_as_xml,
    )
    from runmgr.graph import (
        BaseNode as BaseNode,
        End as End,
        Graph as Graph,
        GraphRun as GraphRun,
        GraphRunContext as GraphRunContext,
    )
    from runmgr.messages import (
        AgentStreamEvent as AgentStreamEvent,
        AudioFormat as AudioFormat,
        AudioMediaType as AudioMediaType,
        AudioUrl as AudioUrl,
        BaseToolCallPart as BaseToolCallPart,
        BaseToolReturnPart as BaseToolReturnPart,
        BinaryContent as BinaryContent,
        BinaryImage as BinaryImage,
        BuiltinToolCallPart as BuiltinToolCallPart,
        BuiltinToolReturnPart as BuiltinToolReturnPart,
        CachePoint as CachePoint,
        DocumentFormat as DocumentFormat,
        DocumentMediaType as DocumentMediaType,
        DocumentUrl as DocumentUrl,
        FilePart as FilePart,
        FileUrl as FileUrl,
        FinalResultEvent as FinalResultEvent,
        FinishReason as FinishReason,
        FunctionToolCallEvent as FunctionToolCallEvent,
        FunctionToolResultEvent as FunctionToolResultEvent,
        HandleResponseEvent as HandleResponseEvent,
        ImageFormat as ImageFormat,
        ImageMediaType as ImageMediaType,
        ImageUrl as ImageUrl,
        ModelMessage as ModelMessage,
        ModelMessagesTypeAdapter as ModelMessagesTypeAdapter,
        ModelRequest as ModelRequest,
        ModelRequestPart as ModelRequestPart,
        ModelResponse as ModelResponse,
        ModelResponsePart as ModelResponsePart,
        ModelResponsePartDelta as ModelResponsePartDelta,
        ModelResponseStreamEvent as ModelResponseStreamEvent,
        MultiModalContent as MultiModalContent,
        PartDeltaEvent as PartDeltaEvent,
        PartEndEvent as PartEndEvent,
        PartStartEvent as PartStartEvent,
        RetryPromptPart as RetryPromptPart,
        SystemPromptPart as SystemPromptPart,
        TextPart as TextPart,
        TextPartDelta as TextPartDelta,
        ThinkingPart as ThinkingPart,
        ThinkingPartDelta as ThinkingPartDelta,
        ToolCallPart as ToolCallPart,
        ToolCallPartDelta as ToolCallPartDelta,
        ToolReturn as ToolReturn,
        ToolReturnPart as ToolReturnPart,
        UserContent as UserContent,
        UserPromptPart as UserPromptPart,
        VideoFormat as VideoFormat,
        VideoMediaType as VideoMediaType,
        VideoUrl as VideoUrl,
    )
    from runmgr.output import (
        NativeOutput as NativeOutput,
        PromptedOutput as PromptedOutput,
        StructuredDict as StructuredDict,
        TextOutput as TextOutput,
        ToolOutput as ToolOutput,
    )
    from runmgr.profiles import (
        DEFAULT_PROFILE as DEFAULT_PROFILE,
        InlineDefsJsonSchemaTransformer as InlineDefsJsonSchemaTransformer,
        JsonSchemaTransformer as JsonSchemaTransformer,
        ModelProfile as ModelProfile,
        ModelProfileSpec as ModelProfileSpec,
    )
    from runmgr.records import (
        Budget as Budget,
        RateLimit as RateLimit,
        RestartPolicy as RestartPolicy,
        RunOutcome as RunOutcome,
        RunState as RunState,
    )
    from runmgr.settings import (
        ModelSettings as ModelSettings,
    )
    from runmgr.supervisor import (
        RunHandle as RunHandle,
        RunSpec as RunSpec,
        Supervisor as Supervisor,
        open_supervisor as open_supervisor,
    )
    from runmgr.tools import (
        DeferredToolRequests as DeferredToolRequests,
        DeferredToolResults as DeferredToolResults,
        RunContext as RunContext,
        Tool as Tool,
        ToolApproved as ToolApproved,
        ToolDefinition as ToolDefinition,
        ToolDenied as ToolDenied,
    )
    from runmgr.toolsets import (
        AbstractToolset as AbstractToolset,
        ApprovalRequiredToolset as ApprovalRequiredToolset,
        CombinedToolset as CombinedToolset,
        ExternalToolset as ExternalToolset,
        FilteredToolset as FilteredToolset,
        FunctionToolset as FunctionToolset,
        PrefixedToolset as PrefixedToolset,
        PreparedToolset as PreparedToolset,
        RenamedToolset as RenamedToolset,
        ToolsetFunc as ToolsetFunc,
        ToolsetTool as ToolsetTool,
        WrapperToolset as WrapperToolset,
    )
    from runmgr.usage import (
        RequestUsage as RequestUsage,
        RunUsage as RunUsage,
        UsageLimits as UsageLimits,
    )

# module -> the public names it holds; the imports above say the same to type checkers (a test holds them together)
_PUBLIC: dict[str, tuple[str, ...]] = {
    "runmgr.agent": (
        "Agent",
        "AgentRun",
        "AgentRunResult",
        "AgentRunResultEvent",
        "CallToolsNode",
        "EndStrategy",
        "InstrumentationSettings",
        "ModelRequestNode",
        "UserPromptNode",
        "capture_run_messages",
    ),
    "runmgr.builtin_tools": (
        "CodeExecutionTool",
        "FileSearchTool",
        "ImageGenerationTool",
        "MCPServerTool",
        "MemoryTool",
        "UrlContextTool",
        "WebFetchTool",
        "WebSearchTool",
        "WebSearchUserLocation",
    ),
    "runmgr.exceptions": (
        "AgentRunError",
        "ApprovalRequired",
        "BudgetExhausted",
        "CallDeferred",
        "ContentFilterError",
        "FallbackExceptionGroup",
        "IncompleteToolCall",
        "JournalError",
        "MalformedResponseError",
        "ModelAPIError",
        "ModelConnectionError",
        "ModelHTTPError",
        "ModelRetry",
        "ModelTimeoutError",
        "RunCancelled",
        "RunEnded",
        "RunFailed",
        "SupervisorClosed",
        "TooManyFailures",
        "UnexpectedModelBehavior",
        "UsageLimitExceeded",
        "UserError",
    ),
    "runmgr.format_prompt": ("format_as_xml",),
    "runmgr.graph": (
        "BaseNode",
        "End",
        "Graph",
        "GraphRun",
        "GraphRunContext",
    ),
    "runmgr.messages": (
        "AgentStreamEvent",
        "AudioFormat",
        "AudioMediaType",
        "AudioUrl",
        "BaseToolCallPart",
        "BaseToolReturnPart",
        "BinaryContent",
        "BinaryImage",
        "BuiltinToolCallPart",
        "BuiltinToolReturnPart",
        "CachePoint",
        "DocumentFormat",
        "DocumentMediaType",
        "DocumentUrl",
        "FilePart",
        "FileUrl",
        "FinalResultEvent",
        "FinishReason",
        "FunctionToolCallEvent",
        "FunctionToolResultEvent",
        "HandleResponseEvent",
        "ImageFormat",
        "ImageMediaType",
        "ImageUrl",
        "ModelMessage",
        "ModelMessagesTypeAdapter",
        "ModelRequest",
        "ModelRequestPart",
        "ModelResponse",
        "ModelResponsePart",
        "ModelResponsePartDelta",
        "ModelResponseStreamEvent",
        "MultiModalContent",
        "PartDeltaEvent",
        "PartEndEvent",
        "PartStartEvent",
        "RetryPromptPart",
        "SystemPromptPart",
        "TextPart",
        "TextPartDelta",
        "ThinkingPart",
        "ThinkingPartDelta",
        "ToolCallPart",
        "ToolCallPartDelta",
        "ToolReturn",
        "ToolReturnPart",
        "UserContent",
        "UserPromptPart",
        "VideoFormat",
        "VideoMediaType",
        "VideoUrl",
    ),
    "runmgr.output": (
        "NativeOutput",
        "PromptedOutput",
        "StructuredDict",
        "TextOutput",
        "ToolOutput",
    ),
    "runmgr.profiles": (
        "DEFAULT_PROFILE",
        "InlineDefsJsonSchemaTransformer",
        "JsonSchemaTransformer",
        "ModelProfile",
        "ModelProfileSpec",
    ),
    "runmgr.records": (
        "Budget",
        "RateLimit",
        "RestartPolicy",
        "RunOutcome",
        "RunState",
    ),
    "runmgr.settings": ("ModelSettings",),
    "runmgr.supervisor": (
        "RunHandle",
        "RunSpec",
        "Supervisor",
        "open_supervisor",
    ),
    "runmgr.tools": (
        "DeferredToolRequests",
        "DeferredToolResults",
        "RunContext",
        "Tool",
        "ToolApproved",
        "ToolDefinition",
        "ToolDenied",
    ),
    "runmgr.toolsets": (
        "AbstractToolset",
        "ApprovalRequiredToolset",
        "CombinedToolset",
        "ExternalToolset",
        "FilteredToolset",
        "FunctionToolset",
        "PrefixedToolset",
        "PreparedToolset",
        "RenamedToolset",
        "ToolsetFunc",
        "ToolsetTool",
        "WrapperToolset",
    ),
    "runmgr.usage": (
        "RequestUsage",
        "RunUsage",
        "UsageLimits",
    ),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ("__version__", *sorted(_HOME))  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
