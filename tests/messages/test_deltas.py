"""Deltas do what Pydantic AI's do, by comparing both on the same pairs; where they cannot, runmgr's own rule."""

import pydantic_ai.messages as theirs
import pytest

import runmgr.messages as ours
from runmgr.messages import (
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

DELTAS = {
    "text": [{"content_delta": "b"}, {"content_delta": "", "provider_details": {"b": 1}}],
    "thinking": [
        {"content_delta": "b", "signature_delta": "s", "provider_name": "q", "provider_details": {"b": 1}},
        {"content_delta": "b"},
        {"signature_delta": "z"},
        {"provider_details": {"b": 1}},
        {"content_delta": "b", "provider_details": lambda known: {**(known or {}), "f": 1}},
        {},
    ],
    "tool": [
        {"tool_name_delta": "b", "args_delta": "x", "tool_call_id": "i2", "provider_details": {"b": 1}},
        {"args_delta": "x"},
        {"args_delta": {"b": 1}},
        {"args_delta": {"b": 1}, "tool_name_delta": "n"},
        {"tool_call_id": "j"},
        {},
    ],
}
CLASSES = {"text": "TextPartDelta", "thinking": "ThinkingPartDelta", "tool": "ToolCallPartDelta"}
ALL_DELTAS = [
    lambda m, kind=kind, arguments=arguments: getattr(m, CLASSES[kind])(**arguments)
    for kind, many in DELTAS.items()
    for arguments in many
]
TARGETS = [
    lambda m: m.TextPart("a", id="i", provider_details={"a": 1}),
    lambda m: m.ThinkingPart("a", signature="z", provider_name="p", provider_details={"a": 1}),
    lambda m: m.ToolCallPart("a", "y", "i", provider_details={"a": 1}),
    lambda m: m.ToolCallPart("a", {"a": 1}, "i"),
    lambda m: m.BuiltinToolCallPart("a", None, "i"),
    *[delta for delta in ALL_DELTAS if not isinstance(delta(ours), TextPartDelta)],
]


@pytest.mark.parametrize("delta", range(len(ALL_DELTAS)))
@pytest.mark.parametrize("target", range(len(TARGETS)))
def test_any_delta_on_anything(seen, delta, target):
    def outcome(module):
        part = TARGETS[target](module)
        try:
            result = ALL_DELTAS[delta](module).apply(part)
            # Functions are compared by what they do.
            known = getattr(result, "provider_details", None)
            if callable(known):
                result.provider_details = known({"q": 1})
            return seen(result)
        except Exception as error:
            return type(error).__name__, str(error).partition(" (")[0]

    on, more = TARGETS[target](ours), ALL_DELTAS[delta](ours)
    if (
        isinstance(on, ThinkingPartDelta)
        and isinstance(on.provider_details, dict)
        and callable(getattr(more, "provider_details", None))
    ):
        pytest.xfail("theirs forgets the details of the first delta; see test_functions_of_details_chain")
    assert outcome(ours) == outcome(theirs)


def test_as_part():
    assert ToolCallPartDelta(args_delta="{").as_part() is None
    assert ToolCallPartDelta(tool_name_delta="t", tool_call_id="i").as_part() == ToolCallPart("t", None, "i")


def test_functions_of_details_chain():
    first = ThinkingPartDelta(content_delta="a", provider_details=lambda known: {"first": known})
    then = ThinkingPartDelta(content_delta="b", provider_details=lambda known: {"then": sorted(known or ())})
    both = then.apply(first)
    assert isinstance(both, ThinkingPartDelta)
    one_by_one = then.apply(first.apply(ThinkingPart("", provider_details={"x": 1})))
    assert both.apply(ThinkingPart("", provider_details={"x": 1})) == one_by_one
