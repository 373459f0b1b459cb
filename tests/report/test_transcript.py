"""A run's messages as entries to read."""

import json
from datetime import UTC, datetime, timedelta

from runmgr.messages import (
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.report.transcript import entries
from runmgr.usage import RequestUsage

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def test_who_said_what_and_how_long_it_took():
    usage = RequestUsage(input_tokens=5, output_tokens=2)
    call = ToolCallPart("look", {"at": 1}, tool_call_id="a")
    messages = [
        ModelRequest([UserPromptPart("Look.", timestamp=at(0))], timestamp=at(0), instructions="Be brief."),
        ModelResponse([TextPart("I look."), call], usage=usage, model_name="m", timestamp=at(1.5)),
        ModelRequest(
            [
                ToolReturnPart("look", "a cat", tool_call_id="a", timestamp=at(1.75)),
                RetryPromptPart("once more", tool_name="look", timestamp=at(13.5)),
            ],
            timestamp=at(13.6),
        ),
        ModelResponse([TextPart("A cat.")], usage=usage, model_name="m", timestamp=at(13.68)),
    ]
    found = [(entry.kind, entry.name, entry.note) for entry in entries(messages)]
    assert found == [
        ("instructions", "", ""),
        ("user", "", ""),
        ("text", "", ""),
        ("call", "look", "m, 5 tokens in, 2 out, 1.5 s"),
        ("return", "look", "250 ms"),
        ("retry", "look", "12 s"),
        ("text", "", "m, 5 tokens in, 2 out, 80 ms"),
    ]


def test_what_a_call_was_given():
    calls = [ToolCallPart("a", {"x": 1}), ToolCallPart("b", '{"y":2}'), ToolCallPart("c", None)]
    shown = [entry.text for entry in entries([ModelResponse(calls)])]
    assert [json.loads(text) for text in shown] == [{"x": 1}, {"y": 2}, {}]


def test_clocks_that_disagree_say_nothing():
    messages = [
        ModelRequest([UserPromptPart("a")], timestamp=at(5)),
        ModelResponse([TextPart("b")], timestamp=at(3)),
        ModelRequest([UserPromptPart("c")]),
        ModelResponse([TextPart("d")], timestamp=at(9)),
    ]
    assert [entry.note for entry in entries(messages)] == ["", "0 tokens in, 0 out"] * 2
