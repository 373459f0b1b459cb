"""Requests and results of deferred tools cross a network, in Pydantic AI's format."""

import pydantic_ai
from pydantic import TypeAdapter

from runmgr.exceptions import ModelRetry
from runmgr.messages import RetryPromptPart, ToolCallPart, ToolReturn
from runmgr.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

REQUESTS = DeferredToolRequests(
    calls=[ToolCallPart("f", {"a": 1}, tool_call_id="1")],
    approvals=[ToolCallPart("f", "{}", tool_call_id="2")],
    metadata={"1": {"z": 1}},
)
RESULTS = DeferredToolResults(
    calls={
        "a": ModelRetry("again"),
        "b": ToolReturn("value", content="more", metadata={"m": 1}),
        "c": RetryPromptPart("why", tool_call_id="i"),
        "d": {"kind": "of my own"},
        "e": 5,
    },
    approvals={"a": True, "b": ToolDenied("never"), "c": ToolApproved(override_args={"x": 1}), "d": False},
    metadata={"a": {"b": 1}},
)


def test_requests():
    adapter, theirs = TypeAdapter(DeferredToolRequests), TypeAdapter(pydantic_ai.DeferredToolRequests)
    dumped = adapter.dump_json(REQUESTS)
    assert adapter.validate_json(dumped) == REQUESTS
    assert adapter.validate_json(theirs.dump_json(theirs.validate_json(dumped))) == REQUESTS
    assert set(adapter.json_schema()["properties"]) == {"calls", "approvals", "metadata"}


def test_results():
    adapter, theirs = TypeAdapter(DeferredToolResults), TypeAdapter(pydantic_ai.DeferredToolResults)
    dumped = adapter.dump_json(RESULTS)
    assert adapter.validate_json(dumped) == RESULTS
    loaded = theirs.validate_json(dumped)
    assert loaded.calls["a"] == pydantic_ai.ModelRetry("again")
    assert loaded.calls["b"] == pydantic_ai.ToolReturn("value", content="more", metadata={"m": 1})
    assert loaded.approvals["b"] == pydantic_ai.ToolDenied("never")
    assert adapter.validate_json(theirs.dump_json(loaded)) == RESULTS


def test_denial_has_a_default():
    assert ToolDenied().message == pydantic_ai.ToolDenied().message
    assert repr(ToolApproved()) == repr(pydantic_ai.ToolApproved())
