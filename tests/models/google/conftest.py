"""Gemini's answers, in the shape that https://ai.google.dev/api/generate-content gives."""

import json

import pytest

from runmgr.messages import ModelRequest, UserPromptPart
from runmgr.models.google import GoogleModel
from runmgr.providers.google import GoogleProvider


class Gemini:
    @staticmethod
    def answer(*parts, reason="STOP", candidate=None, **fields):
        """A whole answer, or a piece of a streamed one."""
        found = {"content": {"parts": list(parts), "role": "model"}, "index": 0} | (candidate or {})
        if reason:
            found["finishReason"] = reason
        return {
            "candidates": [found],
            "usageMetadata": {
                "promptTokenCount": 10,
                "candidatesTokenCount": 5,
                "totalTokenCount": 15,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
            },
            "modelVersion": "gemini-2.5-flash-001",
            "responseId": "r1",
        } | fields

    @classmethod
    def piece(cls, *parts, **fields):
        return cls.answer(*parts, reason=None, **fields)

    @staticmethod
    def sse(*answers):
        return [b"data: %b\r\n\r\n" % json.dumps(answer).encode() for answer in answers]

    @staticmethod
    def prompt(*contents, **fields):
        content = contents[0] if len(contents) == 1 and isinstance(contents[0], str) else list(contents)
        return [ModelRequest([UserPromptPart(content)], **fields)]

    @staticmethod
    def model(server, name="gemini-2.5-flash", **options):
        url = server.url.removesuffix("/v1")
        return GoogleModel(name, provider=GoogleProvider(api_key="hunter2", base_url=url), **options)


@pytest.fixture(scope="session")
def gemini():
    return Gemini
