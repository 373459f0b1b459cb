"""Messages for spans: the shape of Pydantic AI's, and nothing of the content where it must stay inside."""

import json

import pydantic_ai.messages as theirs
import pytest
from pydantic_ai.models.instrumented import InstrumentationSettings

import runmgr.messages as ours
from runmgr.messages.otel import otel_message_parts, otel_messages


def history(m):
    return [
        m.ModelRequest(
            [
                m.SystemPromptPart("secret system"),
                m.UserPromptPart("secret prompt"),
                m.UserPromptPart(
                    [
                        "secret a",
                        m.ImageUrl("https://secret/y.png"),
                        m.AudioUrl("https://secret/a.mp3"),
                        m.DocumentUrl("https://secret/a.pdf"),
                        m.VideoUrl("https://secret/a.mp4"),
                        m.BinaryContent(b"\xff\xfe\xfb", media_type="image/png"),
                        m.CachePoint(),
                    ]
                ),
                m.ToolReturnPart("t", {"a": "secret"}, "i"),
                m.ToolReturnPart("t", "secret", "i"),
                m.RetryPromptPart("secret", tool_name="t", tool_call_id="c"),
            ],
            instructions="secret",
        ),
        m.ModelResponse(
            [
                m.TextPart("secret"),
                m.ThinkingPart("secret"),
                m.ToolCallPart("t", {"a": "secret"}, "i"),
                m.ToolCallPart("t", '{"a":"secret"}', "i"),
                m.BuiltinToolCallPart("t", '"secret"', "i"),
                m.BuiltinToolReturnPart("t", ["secret"], "i"),
                m.FilePart(m.BinaryImage(b"abc", media_type="image/png")),
            ],
            finish_reason="stop",
        ),
        m.ModelResponse([]),
    ]


@pytest.mark.parametrize("include_content", [True, False])
@pytest.mark.parametrize("include_binary_content", [True, False])
def test_shape(include_content, include_binary_content):
    settings = InstrumentationSettings(
        include_content=include_content, include_binary_content=include_binary_content
    )
    here = otel_messages(history(ours), settings)
    there = settings.messages_to_otel_messages(history(theirs))
    assert here == there
    assert history(ours)[1].otel_message_parts(settings) == there[2]["parts"]
    for mine, other in zip(history(ours)[0].parts, history(theirs)[0].parts, strict=True):
        assert mine.otel_message_parts(settings) == other.otel_message_parts(settings)
    if not include_content:
        assert "secret" not in json.dumps(here)
        # Theirs lets the feedback out, which quotes what the model wrote.
        assert otel_message_parts(ours.RetryPromptPart("secret"), settings) == [{"type": "text"}]
    else:
        (text,) = otel_message_parts(ours.RetryPromptPart("why"), settings)
        assert text == theirs.RetryPromptPart("why").otel_message_parts(settings)[0]
    assert otel_message_parts(ours.CachePoint(), settings) == []
