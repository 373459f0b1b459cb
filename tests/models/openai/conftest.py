"""A model behind the server that misbehaves; see ``../conftest.py``."""

import json

import pytest

from runmgr.messages import ModelRequest, UserPromptPart
from runmgr.models import ModelRequestParameters
from runmgr.models.openai import OpenAIChatModel
from runmgr.providers.openai import OpenAIProvider


def completion(message=None, finish_reason="stop", **fields):
    """A chat completion as OpenAI answers it."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi", "refusal": None, "annotations": []}
                | (message or {}),
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }
    return {name: value for name, value in (answer | fields).items() if value is not ...}


def chunk(delta=None, finish_reason=None, **fields):
    """A chunk of a streamed one."""
    choices = (
        []
        if delta is None
        else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
    )
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": choices,
    } | fields


def events(*chunks, done=True):
    """Chunks as server-sent events."""
    data = [
        item if isinstance(item, bytes) else b"data: " + json.dumps(item).encode() + b"\n\n"
        for item in chunks
    ]
    return data + ([b"data: [DONE]\n\n"] if done else [])


class Chat:
    completion = staticmethod(completion)
    chunk = staticmethod(chunk)
    events = staticmethod(events)

    @staticmethod
    def prompt(text="q", **fields):
        return [ModelRequest([UserPromptPart(text)], **fields)]

    @staticmethod
    def model(server, name="gpt-4o", *, provider=None, **options):
        return OpenAIChatModel(
            name, provider=OpenAIProvider(server.url, **{"api_key": "key"} | (provider or {})), **options
        )

    @classmethod
    async def ask(cls, server, messages=None, settings=None, params=None, **options):
        """The body that the server got, and the response."""
        model = cls.model(server, **options)
        response = await model.request(messages or cls.prompt(), settings, params or ModelRequestParameters())
        return server.requests[-1].json(), response


@pytest.fixture
def chat():
    return Chat
