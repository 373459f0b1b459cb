"""Deltas and the parts manager do what Pydantic AI's do, by comparing both on the same programs."""

import re
import time

import pydantic_ai.exceptions
import pydantic_ai.messages as theirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai._parts_manager import ModelResponsePartsManager as TheirManager

import runmgr.messages as ours
from runmgr.exceptions import UnexpectedModelBehavior
from runmgr.messages import (
    ModelResponsePartsManager,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

TAGS = ("<think>", "</think>")


def seen(*values):
    """What can be compared of either library's values: their repr, with made-up ids numbered as they appear."""
    known: dict[str, str] = {}
    return re.sub(
        r"pyd_ai_[0-9a-f]+", lambda found: known.setdefault(found[0], f"id{len(known)}"), repr(values)
    )


details = st.none() | st.dictionaries(st.sampled_from("ab"), st.integers(0, 2), min_size=1, max_size=2)
ids = st.none() | st.sampled_from(["x", "y"])
words = st.sampled_from(["", " ", "a", "b", *TAGS])
args = st.none() | st.sampled_from(["", "{", "}"]) | st.dictionaries(st.sampled_from("ab"), st.integers(0, 1))


def call(method, **arguments):
    return st.fixed_dictionaries(arguments).map(lambda known: (method, known))


parts = st.sampled_from(
    [
        lambda m: m.TextPart("whole"),
        lambda m: m.ThinkingPart("whole"),
        lambda m: m.ToolCallPart("whole", "{}", "w"),
        lambda m: m.BuiltinToolCallPart("whole", None, "w"),
    ]
)
programs = st.lists(
    st.one_of(
        call(
            "handle_text_delta",
            vendor_part_id=ids,
            content=words,
            id=st.none() | st.just("i"),
            provider_details=details,
            thinking_tags=st.none() | st.just(TAGS),
            ignore_leading_whitespace=st.booleans(),
        ),
        call(
            "handle_thinking_delta",
            vendor_part_id=ids,
            content=st.none() | words,
            id=st.none() | st.just("i"),
            signature=st.none() | st.sampled_from(["s", "z"]),
            provider_name=st.none() | st.just("p"),
            provider_details=details,
        ),
        call(
            "handle_tool_call_delta",
            vendor_part_id=ids,
            tool_name=st.none() | st.sampled_from(["t", "u"]),
            args=args,
            tool_call_id=st.none() | st.sampled_from(["1", "2"]),
            provider_details=details,
        ),
        call(
            "handle_tool_call_part",
            vendor_part_id=ids,
            tool_name=st.sampled_from(["t", "u"]),
            args=args,
            tool_call_id=st.none() | st.just("1"),
            id=st.none() | st.just("i"),
            provider_details=details,
        ),
        call("handle_part", vendor_part_id=ids, part=parts),
    ),
    max_size=8,
)


def run(manager, module, program):
    for method, known in program:
        arguments = known
        if method == "handle_part":
            arguments = {**arguments, "part": arguments["part"](module)}
        try:
            result = getattr(manager, method)(**arguments)
            events = list(result) if method in {"handle_text_delta", "handle_thinking_delta"} else [result]
        except (UnexpectedModelBehavior, pydantic_ai.exceptions.UnexpectedModelBehavior) as error:
            events = [type(error).__name__, str(error).partition(" (")[0]]
        yield events, manager.get_parts()


@settings(max_examples=200, deadline=None)
@given(programs)
def test_any_stream_gives_the_same_events_and_parts(program):
    assert seen(*run(ModelResponsePartsManager(), ours, program)) == seen(
        *run(TheirManager(), theirs, program)
    )


@settings(max_examples=200, deadline=None)
@given(programs)
def test_events_rebuild_the_parts(program):
    """Whoever only follows the events ends up with the parts that the manager has."""
    manager = ModelResponsePartsManager()
    rebuilt: dict[int, object] = {}
    for events, _parts in run(manager, ours, program):
        for event in events:
            if isinstance(event, PartStartEvent):
                rebuilt[event.index] = event.part
            elif isinstance(event, PartDeltaEvent):
                rebuilt[event.index] = event.delta.apply(rebuilt[event.index])
    assert [rebuilt[index] for index in sorted(rebuilt)] == manager.get_parts()


def test_a_part_that_was_given_out_does_not_change():
    manager = ModelResponsePartsManager()
    (start,) = manager.handle_text_delta(vendor_part_id=None, content="a")
    before = manager.get_parts()
    manager.handle_text_delta(vendor_part_id=None, content="b")
    assert start.part == TextPart("a")
    assert before == [TextPart("a")]
    assert manager.get_parts() == [TextPart("ab")]
    assert manager.get_parts() == [TextPart("ab")]


def test_a_part_by_the_index_of_its_events():
    manager = ModelResponsePartsManager()
    manager.handle_tool_call_delta(vendor_part_id="x", args="{")
    (start,) = manager.handle_text_delta(vendor_part_id=None, content="a")
    manager.handle_text_delta(vendor_part_id=None, content="b")
    assert (start.index, len(manager)) == (1, 2)
    assert manager.get_part(1) == TextPart("ab")
    assert manager.get_part(0) is manager.get_part(2) is manager.get_part(-1) is None
    assert repr(manager) == "ModelResponsePartsManager([TextPart(content='ab')])"


def test_a_long_stream_costs_what_its_pieces_cost():
    manager = ModelResponsePartsManager()
    start = time.perf_counter()
    for _ in range(20_000):
        manager.handle_text_delta(vendor_part_id=0, content="x" * 1000)
    assert len(manager.get_parts()[0].content) == 20_000_000
    # Joining at each piece would move 200 GB; a busy machine does the rest in well under a second.
    assert time.perf_counter() - start < 5


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
def test_any_delta_on_anything(delta, target):
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
