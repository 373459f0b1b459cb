"""Messages to and from models, under Pydantic AI's names and in its wire format.

Messages and parts are mutable structs: build them, compare them with ``==``, append to ``parts``, copy them with
``copy.copy`` or :func:`replace`. ``ModelMessagesTypeAdapter`` reads and writes histories; its JSON is Pydantic AI's.

Where they differ from Pydantic AI's dataclasses: the discriminators (``kind``, ``part_kind``, ``event_kind``) are
class attributes and no arguments; ``parts`` is always a list; attributes that a class does not have cannot be set;
``BinaryContent`` equals a ``BinaryImage`` of the same bytes and type.
"""

from runmgr.messages.adapter import MessagesTypeAdapter, ModelMessagesTypeAdapter
from runmgr.messages.clock import now_utc, use_clock
from runmgr.messages.codec import (
    ModelMessage,
    decode_message,
    decode_messages,
    encode_message,
    encode_messages,
)
from runmgr.messages.content import (
    AudioUrl,
    BinaryContent,
    BinaryImage,
    CachePoint,
    DocumentUrl,
    FileUrl,
    ImageUrl,
    MultiModalContent,
    ToolReturn,
    UserContent,
    VideoUrl,
)
from runmgr.messages.deltas import (
    ModelResponsePartDelta,
    ProviderDetailsDelta,
    TextPartDelta,
    ThinkingPartDelta,
    ToolCallPartDelta,
)
from runmgr.messages.events import (
    AgentStreamEvent,
    BuiltinToolCallEvent,
    BuiltinToolResultEvent,
    FinalResultEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    HandleResponseEvent,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
)
from runmgr.messages.history import (
    last_request,
    last_response,
    merge_consecutive,
    request_instructions,
    unanswered_tool_calls,
)
from runmgr.messages.ids import generate_tool_call_id, use_tool_call_ids
from runmgr.messages.media import (
    AudioFormat,
    AudioMediaType,
    DocumentFormat,
    DocumentMediaType,
    ImageFormat,
    ImageMediaType,
    VideoFormat,
    VideoMediaType,
    guess_media_type,
)
from runmgr.messages.parts_manager import ModelResponsePartsManager
from runmgr.messages.requests import (
    BaseToolReturnPart,
    ModelRequest,
    ModelRequestPart,
    RetryPromptPart,
    SystemPromptPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.messages.responses import (
    BaseToolCallPart,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    FilePart,
    FinishReason,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.structs import replace as replace

__all__ = (
    "AgentStreamEvent",
    "AudioFormat",
    "AudioMediaType",
    "AudioUrl",
    "BaseToolCallPart",
    "BaseToolReturnPart",
    "BinaryContent",
    "BinaryImage",
    "BuiltinToolCallEvent",
    "BuiltinToolCallPart",
    "BuiltinToolResultEvent",
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
    "MessagesTypeAdapter",
    "ModelMessage",
    "ModelMessagesTypeAdapter",
    "ModelRequest",
    "ModelRequestPart",
    "ModelResponse",
    "ModelResponsePart",
    "ModelResponsePartDelta",
    "ModelResponsePartsManager",
    "ModelResponseStreamEvent",
    "MultiModalContent",
    "PartDeltaEvent",
    "PartEndEvent",
    "PartStartEvent",
    "ProviderDetailsDelta",
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
    "decode_message",
    "decode_messages",
    "encode_message",
    "encode_messages",
    "generate_tool_call_id",
    "guess_media_type",
    "last_request",
    "last_response",
    "merge_consecutive",
    "now_utc",
    "request_instructions",
    "unanswered_tool_calls",
    "use_clock",
    "use_tool_call_ids",
)
