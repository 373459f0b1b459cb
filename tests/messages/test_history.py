"""Questions about histories, and merging for providers that want messages to alternate."""

from datetime import UTC, datetime

import pydantic_ai.messages as theirs
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai._agent_graph import _clean_message_history
from pydantic_ai.models.test import TestModel as TheirModel

import runmgr.messages as ours
from runmgr.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
    encode_messages,
    last_request,
    last_response,
    merge_consecutive,
    request_instructions,
    unanswered_tool_calls,
)
from runmgr.usage import RequestUsage

WHEN = datetime(2025, 1, 1, tzinfo=UTC)


def user(text):
    return UserPromptPart(text, timestamp=WHEN)


parts = st.sampled_from(
    [
        user("a"),
        SystemPromptPart("s", timestamp=WHEN),
        ToolReturnPart("t", "r", "1", timestamp=WHEN),
        RetryPromptPart("r", tool_name="t", tool_call_id="2", timestamp=WHEN),
    ]
)
requests = st.builds(
    ModelRequest,
    st.lists(parts, max_size=3),
    instructions=st.sampled_from([None, "x", "y"]),
    timestamp=st.just(WHEN),
)
responses = st.builds(
    ModelResponse,
    st.lists(st.sampled_from([TextPart("a"), ToolCallPart("t", "{}", "1")]), max_size=2),
    timestamp=st.just(WHEN),
    model_name=st.sampled_from([None, "m"]),
    provider_name=st.sampled_from([None, "p"]),
    provider_response_id=st.sampled_from([None, "i"]),
)
histories = st.lists(requests | responses, max_size=6)


@given(histories)
def test_merging_gives_what_pydantic_ai_sends(history):
    before = encode_messages(history)
    merged = merge_consecutive(history)
    assert encode_messages(history) == before
    expected = _clean_message_history(theirs.ModelMessagesTypeAdapter.validate_json(before))
    assert [(type(m).__name__, getattr(m, "instructions", None)) for m in merged] == [
        (type(m).__name__, getattr(m, "instructions", None)) for m in expected
    ]
    there = ModelMessagesTypeAdapter.validate_json(theirs.ModelMessagesTypeAdapter.dump_json(expected))
    assert [m.parts for m in merged] == [m.parts for m in there]
    assert merge_consecutive(merged) == merged


def test_what_merged_messages_keep():
    first = ModelRequest([user("a")], run_id="1", timestamp=WHEN, metadata={"a": 1})
    second = ModelRequest([user("b"), ToolReturnPart("t", 1, "i", timestamp=WHEN)], run_id="2")
    (merged,) = merge_consecutive([first, second])
    assert (merged.run_id, merged.metadata) == (None, None)  # of two runs
    (one_run,) = merge_consecutive([first, ModelRequest([user("b")], run_id="1", metadata={"a": 1})])
    assert (one_run.run_id, one_run.metadata) == ("1", {"a": 1})
    assert merged.timestamp is WHEN
    assert [part.part_kind for part in merged.parts] == ["tool-return", "user-prompt", "user-prompt"]
    assert (first.parts, len(second.parts)) == ([user("a")], 2)
    response = ModelResponse([TextPart("a")], usage=RequestUsage(input_tokens=1))
    (merged,) = merge_consecutive(
        [response, ModelResponse([TextPart("b")], usage=RequestUsage(input_tokens=2))]
    )
    assert merged.usage.input_tokens == 3
    assert response.usage.input_tokens == 1
    alone = [first, response]
    assert all(mine is given for mine, given in zip(merge_consecutive(alone), alone, strict=True))


def test_last_messages():
    first, answer, second = (
        ModelRequest([user("a")]),
        ModelResponse([TextPart("b")]),
        ModelRequest([user("c")]),
    )
    assert last_response([first, answer, second]) is answer
    assert last_request([first, answer]) is first
    assert last_request([first, answer, second]) is second
    assert last_response([first]) is None
    assert last_request([]) is None


def test_unanswered_tool_calls():
    one, two, three = (ToolCallPart("t", "{}", str(number)) for number in range(3))
    old = ModelResponse([ToolCallPart("old", "{}", "old")])
    history = [ModelRequest([user("a")]), old, ModelResponse([one, TextPart("x"), two, three])]
    assert unanswered_tool_calls(history) == [one, two, three]
    history.append(ModelRequest([ToolReturnPart("t", 1, "0")]))
    history.append(ModelRequest([RetryPromptPart("again", tool_name="t", tool_call_id="2")]))
    assert unanswered_tool_calls(history) == [two]
    history.append(ModelResponse([TextPart("done")]))
    assert unanswered_tool_calls(history) == []
    assert unanswered_tool_calls([]) == []
    assert unanswered_tool_calls(history[:1]) == []


def test_instructions_hold_over_tool_results():
    asked = ModelRequest([user("a")], instructions="be brief")
    returned = ModelRequest([ToolReturnPart("t", 1, "i")])
    assert request_instructions([asked, ModelResponse([]), returned]) == "be brief"
    assert request_instructions([asked, ModelResponse([]), ModelRequest([user("b")])]) is None
    assert request_instructions([asked, ours.replace(returned, instructions="now")]) == "now"
    assert request_instructions([]) is None


REQUESTS = (
    lambda m: [],
    lambda m: [m.UserPromptPart("a")],
    lambda m: [m.ToolReturnPart("t", 1, "i")],
    lambda m: [m.RetryPromptPart("again")],
    lambda m: [m.ToolReturnPart("t", 1, "i"), m.UserPromptPart("a")],
)
requests = st.tuples(st.sampled_from(REQUESTS), st.none() | st.sampled_from(["", "a", "b"]))


@given(st.lists(st.none() | requests, max_size=4))
def test_instructions_are_those_of_pydantic_ai(history):
    def made(m):
        return [
            m.ModelResponse([]) if each is None else m.ModelRequest(each[0](m), instructions=each[1])
            for each in history
        ]

    assert request_instructions(made(ours)) == TheirModel()._get_instructions(made(theirs))
