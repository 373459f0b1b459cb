"""The parts manager does what Pydantic AI's does, by comparing both on the same programs."""

import time

import pydantic_ai.exceptions
import pydantic_ai.messages as theirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai._parts_manager import ModelResponsePartsManager as TheirManager

import runmgr.messages as ours
from runmgr.exceptions import UnexpectedModelBehavior
from runmgr.messages import ModelResponsePartsManager, PartDeltaEvent, PartStartEvent, TextPart

TAGS = ("<think>", "</think>")


def text(content, part=None, **more):
    return ("handle_text_delta", {"vendor_part_id": part, "content": content, **more})


def think(content=None, part=None, **more):
    return ("handle_thinking_delta", {"vendor_part_id": part, "content": content, **more})


def tool(part=None, **more):
    return ("handle_tool_call_delta", {"vendor_part_id": part, **more})


def whole(part=None, **more):
    return ("handle_tool_call_part", {"vendor_part_id": part, **more})


SCRIPTS = [
    [text("a"), text("b")],
    [text(""), text("b")],
    [text("a", "x"), text("b", "y"), text("c", "x")],
    [text(" ", ignore_leading_whitespace=True), text("b ", ignore_leading_whitespace=True)],
    [text("", ignore_leading_whitespace=True)],
    [text(t, "c", thinking_tags=TAGS) for t in ("<think>", "hm", "</think>", "out")],
    [text(t, "c", thinking_tags=TAGS) for t in ("<think>hm", "hm</think>x")],
    [text(t, "c", thinking_tags=TAGS) for t in ("pre", "<think>", "hm", "</think>", "", "  ", "x")],
    [text("</think>", "c", thinking_tags=TAGS)],
    [text("a", id="i", provider_details={"x": 1}), text("b", id="j", provider_details={"y": 1})],
    [think("a"), think("b"), think(signature="s"), think("c")],
    [think("a", signature="s", provider_name="p"), think("b", provider_name="q"), text("t"), think("c")],
    [think()],
    [think("a", "v"), text("x", "v")],
    [text("x", "v"), think("a", "v")],
    [think(""), think(signature="x")],
    [think("a", "v"), think(None, "v"), think(None, "v", provider_name="p")],
    [think("a", id="1"), think("b", id="2")],
    [think("a", "v", provider_details={"a": 1}), think("b", "v", provider_details={"b": 1})],
    [tool(tool_name="f", tool_call_id="i"), tool(args='{"a'), tool(args='":1}'), tool(tool_name="g", args={})],
    [tool("v", args="{"), tool("v", tool_name="f", tool_call_id="i"), tool("v", tool_name="oo", args="}")],
    [tool("v", args="{")],
    [tool(args="{")],
    [tool(tool_name="f", args={"a": 1}), tool(args={"b": 2})],
    [tool("0", tool_name="f", args="{"), tool("1", tool_name="g", args="{"), tool("0", args="}", tool_call_id="n")],
    [tool("0", tool_name="f", tool_call_id="a"), tool("0", tool_call_id="b")],
    [tool("0", tool_name="f", args={"a": 1}), tool("0", args="x")],
    [tool("0", tool_name="f", args="{"), tool("0", args={"b": 2})],
    [tool("0", tool_name="f"), tool("0")],
    [text("t", "0"), tool("0", tool_name="f")],
    [tool("0", tool_name="f"), text("x", "0")],
    [tool("0", tool_name=""), tool("0", tool_name="f", args="")],
    [tool("0", tool_name="f", provider_details={"a": 1}), tool("0", args="{}", provider_details={"b": 2})],
    [whole("v", tool_name="f", args="{}"), whole("v", tool_name="g", args="{}", tool_call_id="i")],
    [whole(tool_name="h", args=None, id="q"), tool(args="{}")],
]  # fmt: skip


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


def both_do(seen, program):
    here, there = run(ModelResponsePartsManager(), ours, program), run(TheirManager(), theirs, program)
    assert seen(*here) == seen(*there)


@pytest.mark.parametrize(
    "script", SCRIPTS, ids=lambda script: " ".join(str(s[1].get("content", s[1].get("args"))) for s in script)
)
def test_events_and_parts_are_pydantic_ais(seen, script):
    both_do(seen, script)


@settings(max_examples=200, deadline=None)
@given(programs)
def test_any_stream_gives_the_same_events_and_parts(seen, program):
    both_do(seen, program)


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


def test_details_made_by_a_function():
    manager = ModelResponsePartsManager()
    manager.handle_thinking_delta(vendor_part_id=1, content="a", provider_details={"n": 1})
    manager.handle_thinking_delta(
        vendor_part_id=1, provider_details=lambda before: {"n": (before or {})["n"] + 1}
    )
    (part,) = manager.get_parts()
    assert part.provider_details == {"n": 2}


def test_whole_parts_replace_and_are_added_to():
    manager = ModelResponsePartsManager()
    manager.handle_part(vendor_part_id="a", part=TextPart("x"))
    manager.handle_text_delta(vendor_part_id="a", content="-")
    event = manager.handle_part(vendor_part_id="a", part=TextPart("y"))
    assert event == PartStartEvent(index=0, part=TextPart("y"))
    manager.handle_text_delta(vendor_part_id="a", content="more")
    assert manager.handle_part(vendor_part_id=None, part=TextPart("z")).index == 1
    assert manager.get_parts() == [TextPart("ymore"), TextPart("z")]
    assert manager.get_part(0) == TextPart("ymore")
    assert manager.get_part(7) is None
    assert len(manager) == 2
