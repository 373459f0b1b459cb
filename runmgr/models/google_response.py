"""From Gemini's answers to our parts: pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from runmgr.exceptions import MalformedResponseError, ModelHTTPError
from runmgr.messages import (
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    FilePart,
    FinishReason,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    generate_tool_call_id,
)
from runmgr.models.google_wire import ANSWER, TOKENS, Answer, Candidate, FunctionCall, Part, PromptFeedback
from runmgr.models.reading import count_of, malformed
from runmgr.usage import RequestUsage

__all__ = (
    "FINISH_REASONS",
    "SIGNATURE",
    "code_parts",
    "embedded_error",
    "feedback_details",
    "fetched_pages",
    "file_part",
    "found_documents",
    "map_answer",
    "map_call",
    "map_tokens",
    "map_usage",
    "rating",
    "signature_of",
)

SIGNATURE = "thought_signature"
"""Where in ``provider_details`` of a part its signature is, in base64."""

# https://ai.google.dev/api/generate-content#FinishReason
FINISH_REASONS: dict[str, FinishReason | None] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "error",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "UNEXPECTED_TOOL_CALL": "error",
    "NO_IMAGE": "error",
}


def map_answer(body: bytes, *, model_name: str, provider_name: str, provider_url: str) -> ModelResponse:
    """The response of an answer. A prompt that was blocked gives a response without parts, with the finish reason
    ``content_filter`` and the reason in ``provider_details['block_reason']``.

    Args:
        body: the answer's JSON.
        model_name: the model that was asked, for answers that do not name theirs and for errors.
        provider_name: goes into the response and into parts.
        provider_url: goes into the response.

    Raises:
        MalformedResponseError: not JSON, or JSON that is no answer.
        ModelHTTPError: the answer is an error.
    """
    try:
        answer = ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(
            body, model_name, f"answered with something that is no response of a model ({error})"
        ) from None
    parts: list[ModelResponsePart] = []
    details: dict[str, Any] = {}
    reason: FinishReason | None = None
    if answer.candidates:
        candidate = answer.candidates[0]
        parts.extend(_searched(candidate, provider_name))
        if candidate.content is not None and candidate.content.parts:
            _map_parts(candidate.content.parts, parts, provider_name)
        if candidate.finish_reason:
            details["finish_reason"] = candidate.finish_reason
            reason = FINISH_REASONS.get(candidate.finish_reason)
        if candidate.safety_ratings:
            details["safety_ratings"] = [rating(each) for each in candidate.safety_ratings]
        if candidate.logprobs_result is not None:
            details["logprobs"] = candidate.logprobs_result
            details["avg_logprobs"] = candidate.avg_logprobs
    elif answer.prompt_feedback is not None and answer.prompt_feedback.block_reason:
        details = feedback_details(answer.prompt_feedback)
        reason = "content_filter"
    elif answer.error:
        raise embedded_error(answer, body, model_name)
    else:
        raise _malformed(body, model_name, "answered without a candidate")
    return ModelResponse(
        parts,
        usage=map_usage(answer.usage_metadata),
        model_name=answer.model_version or model_name,
        provider_name=provider_name,
        provider_url=provider_url,
        provider_details=details or None,
        provider_response_id=answer.response_id,
        finish_reason=reason,
    )


def _map_parts(wire: Sequence[Part], parts: list[ModelResponsePart], provider_name: str) -> None:
    code_id = ""
    for part in wire:
        signature = signature_of(part)
        if part.function_call is not None:
            parts.append(map_call(part.function_call, signature))
        elif part.inline_data is not None:
            parts.append(file_part(part, signature))
        elif part.executable_code is not None or part.code_execution_result is not None:
            call, code_id = code_parts(part, code_id, provider_name, signature)
            parts.append(call)
        elif part.text or signature:
            if part.thought:
                parts.append(ThinkingPart(part.text or "", provider_details=signature))
            else:
                parts.append(TextPart(part.text or "", provider_details=signature))
        # What is left is empty, or of a kind that we do not know.


def signature_of(part: Part) -> dict[str, Any] | None:
    """``provider_details`` of a part: what is to be sent back with it."""
    return {SIGNATURE: part.thought_signature} if part.thought_signature else None


def map_call(call: FunctionCall, details: dict[str, Any] | None) -> ToolCallPart:
    """The call of one of our functions."""
    call_id = call.id or generate_tool_call_id()
    return ToolCallPart(call.name or "", call.args, call_id, provider_details=details)


def file_part(part: Part, details: dict[str, Any] | None) -> FilePart:
    """A file that the model made."""
    assert part.inline_data is not None
    content = BinaryContent(part.inline_data.data, media_type=part.inline_data.mime_type)
    return FilePart(content, provider_details=details)


def code_parts(
    part: Part, call_id: str, provider_name: str, details: dict[str, Any] | None
) -> tuple[BuiltinToolCallPart | BuiltinToolReturnPart, str]:
    """Code that Google ran, or what it gave, and the id that the two have in common; Google has none."""
    if (code := part.executable_code) is not None:
        call_id = generate_tool_call_id()
        args = {"code": code.code, "language": code.language}
        return BuiltinToolCallPart(
            "code_execution", args, call_id, provider_name=provider_name, provider_details=details
        ), call_id
    result = part.code_execution_result
    assert result is not None
    call_id = call_id or generate_tool_call_id()
    content = {"outcome": result.outcome, "output": result.output}
    return BuiltinToolReturnPart(
        "code_execution", content, call_id, provider_name=provider_name, provider_details=details
    ), call_id


_Pair = tuple[BuiltinToolCallPart, BuiltinToolReturnPart]


def _pair(name: str, args: dict[str, Any], content: Any, provider_name: str) -> _Pair:
    call_id = generate_tool_call_id()
    return (
        BuiltinToolCallPart(name, args, call_id, provider_name=provider_name),
        BuiltinToolReturnPart(name, content, call_id, provider_name=provider_name),
    )


def _searched(candidate: Candidate, provider_name: str) -> list[ModelResponsePart]:
    """What Google searched and read before it answered."""
    parts: list[ModelResponsePart] = []
    grounding = candidate.grounding_metadata
    if grounding is not None and grounding.web_search_queries:
        chunks = grounding.grounding_chunks
        content = None if chunks is None else [_web(chunk.web) for chunk in chunks if chunk.web]
        queries = {"queries": grounding.web_search_queries}
        parts.extend(_pair("web_search", queries, content, provider_name))
    documents = found_documents(candidate)
    if documents is not None:
        parts.extend(_pair("file_search", {}, documents, provider_name))
    parts.extend(fetched_pages(candidate, provider_name))
    return parts


def _web(web: dict[str, Any]) -> dict[str, Any]:
    return {"domain": None, "title": None, "uri": None} | web


def found_documents(candidate: Candidate) -> list[dict[str, Any]] | None:
    """What a search of files found, or None where there was none."""
    grounding = candidate.grounding_metadata
    if grounding is None or not grounding.grounding_chunks:
        return None
    found = [
        _snake(chunk.retrieved_context) for chunk in grounding.grounding_chunks if chunk.retrieved_context
    ]
    return found or None


def fetched_pages(candidate: Candidate, provider_name: str) -> tuple[()] | _Pair:
    """The pages that Google read, as a call and its return."""
    metadata = candidate.url_context_metadata
    if metadata is None or not metadata.url_metadata:
        return ()
    pages = [
        {"retrieved_url": page.get("retrievedUrl"), "url_retrieval_status": page.get("urlRetrievalStatus")}
        for page in metadata.url_metadata
    ]
    return _pair("web_fetch", {"urls": [page["retrieved_url"] for page in pages]}, pages, provider_name)


def rating(wire: dict[str, Any]) -> dict[str, Any]:
    """A safety rating with all its fields."""
    return _NO_RATING | wire


_NO_RATING: dict[str, Any] = {
    "blocked": None,
    "category": None,
    "overwrittenThreshold": None,
    "probability": None,
    "probabilityScore": None,
    "severity": None,
    "severityScore": None,
}


def feedback_details(feedback: PromptFeedback) -> dict[str, Any]:
    """``provider_details`` of a prompt that was blocked."""
    details: dict[str, Any] = {"block_reason": feedback.block_reason}
    if feedback.block_reason_message:
        details["block_reason_message"] = feedback.block_reason_message
    if feedback.safety_ratings:
        details["safety_ratings"] = [rating(each) for each in feedback.safety_ratings]
    return details


# ---------------------------------------------------------------- usage

_COUNTS = (
    ("cachedContentTokenCount", "cached_content_tokens"),
    ("thoughtsTokenCount", "thoughts_tokens"),
    ("toolUsePromptTokenCount", "tool_use_prompt_tokens"),
)
_BY_MODALITY = (
    ("promptTokensDetails", "prompt_tokens"),
    ("cacheTokensDetails", "cache_tokens"),
    ("candidatesTokensDetails", "candidates_tokens"),
    ("toolUsePromptTokensDetails", "tool_use_prompt_tokens"),
)


def map_usage(usage: dict[str, Any] | None) -> RequestUsage:
    """Usage as Gemini counts it (https://ai.google.dev/api/generate-content#UsageMetadata); thoughts count as output. ``details`` has
    the further counts, and those by modality.
    """
    if not usage:
        return RequestUsage()
    details: dict[str, int] = {}
    for name, known in _COUNTS:
        if count := count_of(usage, name):
            details[known] = count
    for name, known in _BY_MODALITY:
        listed = usage.get(name)
        if isinstance(listed, list):
            for item in cast("list[Any]", listed):
                if isinstance(item, dict):
                    entry = cast("dict[str, Any]", item)
                    modality, count = entry.get("modality"), count_of(entry, "tokenCount")
                    if isinstance(modality, str) and count:
                        details[f"{modality.lower()}_{known}"] = count
    # The sum of ours is Google's total. What its own tools put into the prompt is paid for as input, which Pydantic AI 1.46 with the
    # genai-prices of its day took for output.
    output = count_of(usage, "candidatesTokenCount") + count_of(usage, "thoughtsTokenCount")
    return RequestUsage(
        input_tokens=count_of(usage, "promptTokenCount") + count_of(usage, "toolUsePromptTokenCount"),
        output_tokens=output,
        cache_read_tokens=count_of(usage, "cachedContentTokenCount"),
        input_audio_tokens=details.get("audio_prompt_tokens", 0),
        cache_audio_read_tokens=details.get("audio_cache_tokens", 0),
        output_audio_tokens=details.get("audio_candidates_tokens", 0),
        details=details,
    )


def map_tokens(body: bytes, model_name: str) -> RequestUsage:
    """What ``countTokens`` answers.

    Raises:
        MalformedResponseError: it is something else.
    """
    try:
        return RequestUsage(input_tokens=TOKENS.decode(body).total_tokens)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(body, model_name, f"answered without a count of tokens ({error})") from None


# ---------------------------------------------------------------- errors


def embedded_error(answer: Answer, body: bytes, model_name: str) -> ModelHTTPError:
    """The exception of an error that came inside an answer of status 200."""
    error = answer.error
    code = cast("dict[str, Any]", error).get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return ModelHTTPError(status, model_name, msgspec.json.decode(body))


_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


def retry_delay(body: object) -> str | None:
    """Seconds that an error asks to wait: Google says so in the body (``google.rpc.RetryInfo``), not in a header."""
    error = cast("dict[str, Any]", body).get("error") if isinstance(body, dict) else None
    details = cast("dict[str, Any]", error).get("details") if isinstance(error, dict) else None
    for detail in cast("list[Any]", details) if isinstance(details, list) else []:
        told = cast("dict[str, Any]", detail).get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(told, str) and (found := _DURATION.fullmatch(told)):
            return found[1]
    return None


def _malformed(body: bytes, model_name: str, what: str) -> MalformedResponseError:
    return malformed("Google", what, body, model_name)


_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def _snake(value: dict[str, Any]) -> dict[str, Any]:
    return {_HUMP.sub(lambda hump: "_" + hump[1].lower(), name): item for name, item in value.items()}
