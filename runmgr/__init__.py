"""runmgr: a run manager for LLM agents on trio.

The names below are imported when they are first used, so that ``import runmgr`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from runmgr.agent import (
        Agent,
        AgentRun,
        AgentRunResult,
        AgentRunResultEvent,
        CallToolsNode,
        EndStrategy,
        InstrumentationSettings,
        ModelRequestNode,
        UserPromptNode,
        capture_run_messages,
    )
    from runmgr.batch import (
        BatchConfig,
        BatchReport,
        BatchResult,
        Case,
        Dataset,
        Judge,
        PairwiseJudge,
        Scorer,
        evaluate,
        rescore,
        run_batch,
    )
    from runmgr.builtin_tools import (
        CodeExecutionTool,
        FileSearchTool,
        ImageGenerationTool,
        MCPServerTool,
        MemoryTool,
        UrlContextTool,  # pyright: ignore[reportDeprecated]  (its name is Pydantic AI's too)
        WebFetchTool,
        WebSearchTool,
        WebSearchUserLocation,
    )
    from runmgr.exceptions import (
        AgentRunError,
        ApprovalRequired,
        BudgetExhausted,
        CallDeferred,
        ContentFilterError,
        FallbackExceptionGroup,
        IncompleteToolCall,
        JournalError,
        MalformedResponseError,
        ModelAPIError,
        ModelConnectionError,
        ModelHTTPError,
        ModelRetry,
        ModelTimeoutError,
        RunCancelled,
        RunEnded,
        RunFailed,
        SupervisorClosed,
        ToolInterrupted,
        TooManyFailures,
        UnexpectedModelBehavior,
        UsageLimitExceeded,
        UserError,
    )
    from runmgr.format_prompt import (
        format_as_xml,
    )
    from runmgr.graph import (
        BaseNode,
        End,
        Graph,
        GraphRun,
        GraphRunContext,
    )
    from runmgr.journal import (
        JournalReader,
        open_journal,
    )
    from runmgr.messages import (
        AgentStreamEvent,
        AudioFormat,
        AudioMediaType,
        AudioUrl,
        BaseToolCallPart,
        BaseToolReturnPart,
        BinaryContent,
        BinaryImage,
        BuiltinToolCallPart,
        BuiltinToolReturnPart,
        CachePoint,
        DocumentFormat,
        DocumentMediaType,
        DocumentUrl,
        FilePart,
        FileUrl,
        FinalResultEvent,
        FinishReason,
        FunctionToolCallEvent,
        FunctionToolResultEvent,
        HandleResponseEvent,
        ImageFormat,
        ImageMediaType,
        ImageUrl,
        ModelMessage,
        ModelMessagesTypeAdapter,
        ModelRequest,
        ModelRequestPart,
        ModelResponse,
        ModelResponsePart,
        ModelResponsePartDelta,
        ModelResponseStreamEvent,
        MultiModalContent,
        PartDeltaEvent,
        PartEndEvent,
        PartStartEvent,
        RetryPromptPart,
        SystemPromptPart,
        TextPart,
        TextPartDelta,
        ThinkingPart,
        ThinkingPartDelta,
        ToolCallPart,
        ToolCallPartDelta,
        ToolReturn,
        ToolReturnPart,
        UserContent,
        UserPromptPart,
        VideoFormat,
        VideoMediaType,
        VideoUrl,
    )
    from runmgr.output import (
        NativeOutput,
        PromptedOutput,
        StructuredDict,
        TextOutput,
        ToolOutput,
    )
    from runmgr.pool import (
        AsyncioRunPool,
        PoolFull,
        RunFuture,
        RunPool,
        as_worker,
    )
    from runmgr.profiles import (
        DEFAULT_PROFILE,
        InlineDefsJsonSchemaTransformer,
        JsonSchemaTransformer,
        ModelProfile,
        ModelProfileSpec,
    )
    from runmgr.records import (
        Budget,
        CachePolicy,
        Hedge,
        Price,
        RateLimit,
        RestartPolicy,
        RunError,
        RunOutcome,
        RunState,
    )
    from runmgr.settings import (
        ModelSettings,
    )
    from runmgr.supervisor import (
        BreakerPolicy,
        Outcomes,
        RunChannel,
        RunHandle,
        RunSpec,
        Supervisor,
        current_supervisor,
        open_supervisor,
    )
    from runmgr.tools import (
        DeferredToolRequests,
        DeferredToolResults,
        RunContext,
        Tool,
        ToolApproved,
        ToolDefinition,
        ToolDenied,
    )
    from runmgr.toolsets import (
        AbstractToolset,
        ApprovalRequiredToolset,
        CombinedToolset,
        DynamicToolset,
        ExternalToolset,
        FilteredToolset,
        FunctionToolset,
        PrefixedToolset,
        PreparedToolset,
        RenamedToolset,
        ToolsetFunc,
        ToolsetTool,
        WrapperToolset,
    )
    from runmgr.usage import (
        RequestUsage,
        RunUsage,
        UsageLimits,
    )

# module -> the public names it holds; the imports above say the same to type checkers (a test holds them together)
_PUBLIC = {
    "runmgr.agent": """
        Agent AgentRun AgentRunResult AgentRunResultEvent CallToolsNode EndStrategy
        InstrumentationSettings ModelRequestNode UserPromptNode capture_run_messages
    """,
    "runmgr.batch": """
        BatchConfig BatchReport BatchResult Case Dataset Judge PairwiseJudge Scorer evaluate rescore
        run_batch
    """,
    "runmgr.builtin_tools": """
        CodeExecutionTool FileSearchTool ImageGenerationTool MCPServerTool MemoryTool UrlContextTool
        WebFetchTool WebSearchTool WebSearchUserLocation
    """,
    "runmgr.exceptions": """
        AgentRunError ApprovalRequired BudgetExhausted CallDeferred ContentFilterError
        FallbackExceptionGroup IncompleteToolCall JournalError MalformedResponseError ModelAPIError
        ModelConnectionError ModelHTTPError ModelRetry ModelTimeoutError RunCancelled RunEnded
        RunFailed SupervisorClosed TooManyFailures ToolInterrupted UnexpectedModelBehavior
        UsageLimitExceeded UserError
    """,
    "runmgr.format_prompt": """
        format_as_xml
    """,
    "runmgr.graph": """
        BaseNode End Graph GraphRun GraphRunContext
    """,
    "runmgr.journal": """
        JournalReader open_journal
    """,
    "runmgr.messages": """
        AgentStreamEvent AudioFormat AudioMediaType AudioUrl BaseToolCallPart BaseToolReturnPart
        BinaryContent BinaryImage BuiltinToolCallPart BuiltinToolReturnPart CachePoint
        DocumentFormat DocumentMediaType DocumentUrl FilePart FileUrl FinalResultEvent FinishReason
        FunctionToolCallEvent FunctionToolResultEvent HandleResponseEvent ImageFormat ImageMediaType
        ImageUrl ModelMessage ModelMessagesTypeAdapter ModelRequest ModelRequestPart ModelResponse
        ModelResponsePart ModelResponsePartDelta ModelResponseStreamEvent MultiModalContent
        PartDeltaEvent PartEndEvent PartStartEvent RetryPromptPart SystemPromptPart TextPart
        TextPartDelta ThinkingPart ThinkingPartDelta ToolCallPart ToolCallPartDelta ToolReturn
        ToolReturnPart UserContent UserPromptPart VideoFormat VideoMediaType VideoUrl
    """,
    "runmgr.output": """
        NativeOutput PromptedOutput StructuredDict TextOutput ToolOutput
    """,
    "runmgr.pool": """
        AsyncioRunPool PoolFull RunFuture RunPool as_worker
    """,
    "runmgr.profiles": """
        DEFAULT_PROFILE InlineDefsJsonSchemaTransformer JsonSchemaTransformer ModelProfile
        ModelProfileSpec
    """,
    "runmgr.records": """
        Budget CachePolicy Hedge Price RateLimit RestartPolicy RunError RunOutcome RunState
    """,
    "runmgr.settings": """
        ModelSettings
    """,
    "runmgr.supervisor": """
        BreakerPolicy Outcomes RunChannel RunHandle RunSpec Supervisor current_supervisor
        open_supervisor
    """,
    "runmgr.tools": """
        DeferredToolRequests DeferredToolResults RunContext Tool ToolApproved ToolDefinition
        ToolDenied
    """,
    "runmgr.toolsets": """
        AbstractToolset ApprovalRequiredToolset CombinedToolset DynamicToolset ExternalToolset
        FilteredToolset FunctionToolset PrefixedToolset PreparedToolset RenamedToolset ToolsetFunc
        ToolsetTool WrapperToolset
    """,
    "runmgr.usage": """
        RequestUsage RunUsage UsageLimits
    """,
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = [
    "DEFAULT_PROFILE",
    "AbstractToolset",
    "Agent",
    "AgentRun",
    "AgentRunError",
    "AgentRunResult",
    "AgentRunResultEvent",
    "AgentStreamEvent",
    "ApprovalRequired",
    "ApprovalRequiredToolset",
    "AsyncioRunPool",
    "AudioFormat",
    "AudioMediaType",
    "AudioUrl",
    "BaseNode",
    "BaseToolCallPart",
    "BaseToolReturnPart",
    "BatchConfig",
    "BatchReport",
    "BatchResult",
    "BinaryContent",
    "BinaryImage",
    "BreakerPolicy",
    "Budget",
    "BudgetExhausted",
    "BuiltinToolCallPart",
    "BuiltinToolReturnPart",
    "CachePoint",
    "CachePolicy",
    "CallDeferred",
    "CallToolsNode",
    "Case",
    "CodeExecutionTool",
    "CombinedToolset",
    "ContentFilterError",
    "Dataset",
    "DeferredToolRequests",
    "DeferredToolResults",
    "DocumentFormat",
    "DocumentMediaType",
    "DocumentUrl",
    "DynamicToolset",
    "End",
    "EndStrategy",
    "ExternalToolset",
    "FallbackExceptionGroup",
    "FilePart",
    "FileSearchTool",
    "FileUrl",
    "FilteredToolset",
    "FinalResultEvent",
    "FinishReason",
    "FunctionToolCallEvent",
    "FunctionToolResultEvent",
    "FunctionToolset",
    "Graph",
    "GraphRun",
    "GraphRunContext",
    "HandleResponseEvent",
    "Hedge",
    "ImageFormat",
    "ImageGenerationTool",
    "ImageMediaType",
    "ImageUrl",
    "IncompleteToolCall",
    "InlineDefsJsonSchemaTransformer",
    "InstrumentationSettings",
    "JournalError",
    "JournalReader",
    "JsonSchemaTransformer",
    "Judge",
    "MCPServerTool",
    "MalformedResponseError",
    "MemoryTool",
    "ModelAPIError",
    "ModelConnectionError",
    "ModelHTTPError",
    "ModelMessage",
    "ModelMessagesTypeAdapter",
    "ModelProfile",
    "ModelProfileSpec",
    "ModelRequest",
    "ModelRequestNode",
    "ModelRequestPart",
    "ModelResponse",
    "ModelResponsePart",
    "ModelResponsePartDelta",
    "ModelResponseStreamEvent",
    "ModelRetry",
    "ModelSettings",
    "ModelTimeoutError",
    "MultiModalContent",
    "NativeOutput",
    "Outcomes",
    "PairwiseJudge",
    "PartDeltaEvent",
    "PartEndEvent",
    "PartStartEvent",
    "PoolFull",
    "PrefixedToolset",
    "PreparedToolset",
    "Price",
    "PromptedOutput",
    "RateLimit",
    "RenamedToolset",
    "RequestUsage",
    "RestartPolicy",
    "RetryPromptPart",
    "RunCancelled",
    "RunChannel",
    "RunContext",
    "RunEnded",
    "RunError",
    "RunFailed",
    "RunFuture",
    "RunHandle",
    "RunOutcome",
    "RunPool",
    "RunSpec",
    "RunState",
    "RunUsage",
    "Scorer",
    "StructuredDict",
    "Supervisor",
    "SupervisorClosed",
    "SystemPromptPart",
    "TextOutput",
    "TextPart",
    "TextPartDelta",
    "ThinkingPart",
    "ThinkingPartDelta",
    "TooManyFailures",
    "Tool",
    "ToolApproved",
    "ToolCallPart",
    "ToolCallPartDelta",
    "ToolDefinition",
    "ToolDenied",
    "ToolInterrupted",
    "ToolOutput",
    "ToolReturn",
    "ToolReturnPart",
    "ToolsetFunc",
    "ToolsetTool",
    "UnexpectedModelBehavior",
    "UrlContextTool",
    "UsageLimitExceeded",
    "UsageLimits",
    "UserContent",
    "UserError",
    "UserPromptNode",
    "UserPromptPart",
    "VideoFormat",
    "VideoMediaType",
    "VideoUrl",
    "WebFetchTool",
    "WebSearchTool",
    "WebSearchUserLocation",
    "WrapperToolset",
    "as_worker",
    "capture_run_messages",
    "current_supervisor",
    "evaluate",
    "format_as_xml",
    "open_journal",
    "open_supervisor",
    "rescore",
    "run_batch",
]
