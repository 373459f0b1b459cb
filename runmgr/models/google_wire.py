"""Gemini's answers as they come over the wire, read tolerantly: whatever may be missing is, what is unknown is skipped.

https://ai.google.dev/api/generate-content and https://ai.google.dev/api/tokens are the reference.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

__all__ = (
    "ANSWER",
    "TOKENS",
    "Answer",
    "Blob",
    "Candidate",
    "Code",
    "CodeResult",
    "Content",
    "FunctionCall",
    "GroundingChunk",
    "GroundingMetadata",
    "Part",
    "PromptFeedback",
    "Tokens",
    "UrlContextMetadata",
)


class FunctionCall(Struct, gc=False):
    """A call of one of our functions."""

    name: str | None = None
    args: dict[str, Any] | None = None
    id: str | None = None


class Blob(Struct, gc=False, rename="camel"):
    """A file; ``data`` is base64."""

    mime_type: str = "application/octet-stream"
    data: bytes = b""


class Code(Struct, gc=False):
    """Code that the model runs."""

    code: str | None = None
    language: str | None = None


class CodeResult(Struct, gc=False):
    """What running it gave."""

    outcome: str | None = None
    output: str | None = None


class Part(Struct, gc=False, rename="camel"):
    """A part: which of the fields is there says of what kind it is. ``known`` parts without any of them are empty text."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    executable_code: Code | None = None
    code_execution_result: CodeResult | None = None


class Content(Struct, gc=False):
    """What the model says."""

    parts: list[Part] | None = None


class GroundingChunk(Struct, gc=False, rename="camel"):
    """A source."""

    web: dict[str, Any] | None = None
    retrieved_context: dict[str, Any] | None = None


class GroundingMetadata(Struct, gc=False, rename="camel"):
    """What Google searched for, and found."""

    web_search_queries: list[str] | None = None
    grounding_chunks: list[GroundingChunk] | None = None


class UrlContextMetadata(Struct, gc=False, rename="camel"):
    """Which pages Google read."""

    url_metadata: list[dict[str, Any]] | None = None


class Candidate(Struct, gc=False, rename="camel"):
    """One of the answers; we ask for one."""

    content: Content | None = None
    finish_reason: str | None = None
    safety_ratings: list[dict[str, Any]] | None = None
    grounding_metadata: GroundingMetadata | None = None
    url_context_metadata: UrlContextMetadata | None = None
    logprobs_result: dict[str, Any] | None = None
    avg_logprobs: float | None = None


class PromptFeedback(Struct, gc=False, rename="camel"):
    """Why the prompt was not answered."""

    block_reason: str | None = None
    block_reason_message: str | None = None
    safety_ratings: list[dict[str, Any]] | None = None


class Answer(Struct, gc=False, rename="camel"):
    """An answer, or a piece of one in a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: dict[str, Any] | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


class Tokens(Struct, gc=False, rename="camel"):
    """What ``countTokens`` answers."""

    total_tokens: int


ANSWER = msgspec.json.Decoder(Answer)
TOKENS = msgspec.json.Decoder(Tokens)
