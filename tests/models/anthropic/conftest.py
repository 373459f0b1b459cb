"""Anthropic's answers, in the shape that https://docs.claude.com/en/api/messages and .../build-with-claude/streaming give."""

import json

import pytest

from runmgr.messages import ModelRequest, UserPromptPart
from runmgr.models.anthropic import AnthropicModel
from runmgr.providers.anthropic import AnthropicProvider


class Claude:
    USAGE = {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }

    @classmethod
    def message(cls, *content, **fields):
        """A whole answer."""
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": list(content),
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": cls.USAGE,
        } | fields

    @classmethod
    def start(cls, **fields):
        message = cls.message(stop_reason=None, usage=cls.USAGE | {"output_tokens": 1}) | fields
        return {"type": "message_start", "message": message}

    @staticmethod
    def block(index, **block):
        return {"type": "content_block_start", "index": index, "content_block": block}

    @staticmethod
    def delta(index, **delta):
        return {"type": "content_block_delta", "index": index, "delta": delta}

    @staticmethod
    def stop(index):
        return {"type": "content_block_stop", "index": index}

    @staticmethod
    def end(reason="end_turn", **usage):
        return [
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": 7} | usage,
            },
            {"type": "message_stop"},
        ]

    @staticmethod
    def sse(*events):
        """Events as they are sent."""
        return [b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events]

    @staticmethod
    def prompt(*contents, **fields):
        content = contents[0] if len(contents) == 1 and isinstance(contents[0], str) else list(contents)
        return [ModelRequest([UserPromptPart(content)], **fields)]

    @staticmethod
    def model(server, name="claude-sonnet-4-5", **options):
        url = server.url.removesuffix("/v1")
        return AnthropicModel(name, provider=AnthropicProvider(api_key="hunter2", base_url=url), **options)


@pytest.fixture
def claude():
    return Claude


@pytest.fixture(scope="session")
def claude_class():
    return Claude
