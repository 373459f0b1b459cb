"""From the pieces of a streamed answer of Gemini to our parts.

https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent is the reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from runmgr.messages import BuiltinToolCallPart, BuiltinToolReturnPart, ModelResponseStreamEvent
from runmgr.models.google_response import (
    FINISH_REASONS,
    code_parts,
    embedded_error,
    feedback_details,
    fetched_pages,
    file_part,
    found_documents,
    map_call,
    map_usage,
    rating,
    signature_of,
)
from runmgr.models.google_wire import ANSWER, Answer, Candidate, Part
from runmgr.models.remote_stream import EventReader, RemoteStream, decoded

__all__ = ("AnswerReader", "GeminiStreamedResponse")


class AnswerReader(EventReader[Answer]):
    """Bytes of a streamed answer in, its pieces out."""

    ends_with = "finishReason"

    def _read(self, event: bytes, data: bytes) -> Answer:
        del event
        answer = decoded(ANSWER, data, self._model_name, "response of a model")
        if answer.error:
            raise embedded_error(answer, data, self._model_name)
        feedback = answer.prompt_feedback
        if (answer.candidates and answer.candidates[0].finish_reason) or (
            feedback is not None and feedback.block_reason
        ):
            self.finished = True
        return answer


_PIECES = msgspec.json.Decoder(list[msgspec.Raw])

# What the model writes to search files, which it does as code.
_SEARCH = re.compile(r"file_search\.query\(query=([\"'])(.*?)\1\)")


class GeminiStreamedResponse(RemoteStream[Answer]):
    """An answer as it comes. Arguments as of ``RemoteStream``."""

    _reader_class = AnswerReader

    def _begin_state(self) -> None:
        self._code_id = ""
        self._search_id = ""

    def whole_events(self, body: bytes) -> bool:
        """As of ``RemoteStream``: without ``alt=sse``, which a proxy may drop, Google answers with a JSON array of all pieces."""
        if not body.lstrip().startswith(b"["):
            return super().whole_events(body)
        pieces = decoded(_PIECES, body, self._asked, "list of responses of a model")
        reader = self._reader
        for piece in pieces:
            # A piece is JSON, in which a line break is never more than space.
            self._waiting += reader.feed(
                b"data: " + bytes(piece).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n\n"
            )
        self._waiting += reader.end()
        return True

    def _apply(self, event: Answer) -> Iterator[ModelResponseStreamEvent]:
        if event.usage_metadata:
            # Each count is of all that came so far.
            self._usage = map_usage(event.usage_metadata)
        if event.response_id:
            self.provider_response_id = event.response_id
        if event.model_version:
            self._model_name = event.model_version
        if not event.candidates:
            feedback = event.prompt_feedback
            if feedback is not None and feedback.block_reason:
                self.finish_reason = "content_filter"
                for name, value in feedback_details(feedback).items():
                    self._detail(name, value)
            return
        candidate = event.candidates[0]
        if candidate.finish_reason:
            self.finish_reason = FINISH_REASONS.get(candidate.finish_reason)
            self._detail("finish_reason", candidate.finish_reason)
        if candidate.safety_ratings:
            self._detail("safety_ratings", [rating(each) for each in candidate.safety_ratings])
        if candidate.logprobs_result is not None:
            self._detail("logprobs", candidate.logprobs_result)
            self._detail("avg_logprobs", candidate.avg_logprobs)
        yield from self._parts(candidate)

    def _parts(self, candidate: Candidate) -> Iterator[ModelResponseStreamEvent]:
        manager = self._parts_manager
        for part in fetched_pages(candidate, self._provider_name):
            yield manager.handle_part(vendor_part_id=None, part=part)
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                yield from self._part(part)
        documents = found_documents(candidate)
        if documents is not None and self._search_id:
            returned = BuiltinToolReturnPart(
                "file_search", documents, self._search_id, provider_name=self._provider_name
            )
            yield manager.handle_part(vendor_part_id=None, part=returned)
            self._search_id = ""

    def _part(self, part: Part) -> Iterator[ModelResponseStreamEvent]:
        manager = self._parts_manager
        signature = signature_of(part)
        if part.function_call is not None:
            yield manager.handle_part(vendor_part_id=None, part=map_call(part.function_call, signature))
        elif part.inline_data is not None:
            yield manager.handle_part(vendor_part_id=None, part=file_part(part, signature))
        elif part.executable_code is not None and (query := _SEARCH.search(part.executable_code.code or "")):
            call = BuiltinToolCallPart(
                "file_search",
                {"query": query[2]},
                provider_name=self._provider_name,
                provider_details=signature,
            )
            self._search_id = call.tool_call_id
            yield manager.handle_part(vendor_part_id=None, part=call)
        elif part.executable_code is not None or part.code_execution_result is not None:
            code, self._code_id = code_parts(part, self._code_id, self._provider_name, signature)
            yield manager.handle_part(vendor_part_id=None, part=code)
        elif part.text or signature:
            if part.thought:
                yield from manager.handle_thinking_delta(
                    vendor_part_id=None, content=part.text or "", provider_details=signature
                )
            else:
                yield from manager.handle_text_delta(
                    vendor_part_id=None, content=part.text or "", provider_details=signature
                )
