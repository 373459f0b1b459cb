"""OpenAI's responses, in the shape that https://platform.openai.com/docs/api-reference/responses/object gives."""

import json

import pytest

from runmgr.messages import ModelRequest, ModelResponse, UserPromptPart
from runmgr.models.openai import OpenAIResponsesModel
from runmgr.providers.openai import OpenAIProvider


class Responses:
    @staticmethod
    def answer(*output, **fields):
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_700_000_000,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "model": "gpt-5-2025-08-07",
            "output": list(output),
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 2},
                "total_tokens": 15,
            },
        } | fields

    @staticmethod
    def text(text="hi", id="msg_1", **more):
        content = {"type": "output_text", "text": text, "annotations": []} | more
        return {"id": id, "type": "message", "status": "completed", "role": "assistant", "content": [content]}

    @staticmethod
    def call(call_id="c1", name="foo", arguments='{"x":1}', id="fc_1"):
        return {
            "id": id,
            "type": "function_call",
            "status": "completed",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        }

    @staticmethod
    def reasoning(*summary, id="rs_1", **more):
        texts = [{"type": "summary_text", "text": text} for text in summary]
        return {"id": id, "type": "reasoning", "summary": texts} | more

    @staticmethod
    def sse(*events):
        return [
            b"event: %b\ndata: %b\n\n"
            % (event["type"].encode(), json.dumps({"sequence_number": number} | event).encode())
            for number, event in enumerate(events)
        ]

    @classmethod
    def started(cls):
        return {"type": "response.created", "response": cls.answer(status="in_progress", usage=None)}

    @classmethod
    def done(cls, kind="completed", **fields):
        return {"type": f"response.{kind}", "response": cls.answer(**fields)}

    @staticmethod
    def added(item):
        return {"type": "response.output_item.added", "output_index": 0, "item": item}

    @staticmethod
    def ended(item):
        return {"type": "response.output_item.done", "output_index": 0, "item": item}

    @staticmethod
    def event(kind, item_id, **fields):
        return {"type": f"response.{kind}", "item_id": item_id, "output_index": 0} | fields

    @classmethod
    def streamed_text(cls, *texts, id="msg_1"):
        item = cls.text("".join(texts), id)
        return [
            cls.added(item | {"content": [], "status": "in_progress"}),
            cls.event("content_part.added", id, content_index=0, part={"type": "output_text", "text": ""}),
            *(cls.event("output_text.delta", id, content_index=0, delta=text) for text in texts),
            cls.event("output_text.done", id, content_index=0, text="".join(texts), logprobs=[]),
            cls.event("content_part.done", id, content_index=0, part=item["content"][0]),
            cls.ended(item),
        ]

    @staticmethod
    def prompt(*contents, **fields):
        content = contents[0] if len(contents) == 1 and isinstance(contents[0], str) else list(contents)
        return [ModelRequest([UserPromptPart(content)], **fields)]

    @classmethod
    def history(cls, *parts, provider="openai", **fields):
        return [
            *cls.prompt("q"),
            ModelResponse(list(parts), provider_name=provider, **fields),
            *cls.prompt("r"),
        ]

    @staticmethod
    def model(server, name="gpt-5", **options):
        return OpenAIResponsesModel(name, provider=OpenAIProvider(server.url, "hunter2"), **options)


@pytest.fixture(scope="session")
def api():
    return Responses
