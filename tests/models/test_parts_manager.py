"""ModelResponsePartsManager, step by step: the events and parts are Pydantic AI's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai._parts_manager import ModelResponsePartsManager as TheirManager

from runmgr.exceptions import UnexpectedModelBehavior
from runmgr.messages import PartDeltaEvent, PartStartEvent, TextPart, ToolCallPart
from runmgr.models import ModelResponsePartsManager

TAGS = ("<think>", "</think>")


def text(content, part=None, **more):
    return ("handle_text_delta", {"vendor_part_id": part, "content": content, **more})


def think(content=None, part=None, **more):
    return ("handle_thinking_delta", {"vendor_part_id": part, "content": content, **more})


def call(part=None, **more):
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
    [think("a", id="1"), think("b", id="2")],
    [think("a", "v", provider_details={"a": 1}), think("b", "v", provider_details={"b": 1})],
    [call(tool_name="f", tool_call_id="i"), call(args='{"a'), call(args='":1}'), call(tool_name="g", args={})],
    [call("v", args="{"), call("v", tool_name="f", tool_call_id="i"), call("v", tool_name="oo", args="}")],
    [call("v", args="{")],
    [call(args="{")],
    [call(tool_name="f", args={"a": 1}), call(args={"b": 2})],
    [call("0", tool_name="f", args="{"), call("1", tool_name="g", args="{"), call("0", args="}", tool_call_id="n")],
    [call("0", tool_name="f", tool_call_id="a"), call("0", tool_call_id="b")],
    [call("0", tool_name="f"), call("0")],
    [text("t", "0"), call("0", tool_name="f")],
    [call("0", tool_name="f"), text("x", "0")],
    [call("0", tool_name=""), call("0", tool_name="f", args="")],
    [call("0", tool_name="f", provider_details={"a": 1}), call("0", args="{}", provider_details={"b": 2})],
    [whole("v", tool_name="f", args="{}"), whole("v", tool_name="g", args="{}", tool_call_id="i")],
    [whole(tool_name="h", args=None, id="q"), call(args="{}")],
]  # fmt: skip


@pytest.mark.parametrize(
    "script", SCRIPTS, ids=lambda script: " ".join(str(s[1].get("content", s[1].get("args"))) for s in script)
)
def test_events_and_parts_are_pydantic_ais(same, script):
    async def scenario(lib):
        manager = ModelResponsePartsManager() if lib.library == "runmgr" else TheirManager()
        seen = []
        for name, arguments in script:
            try:
                events = getattr(manager, name)(**arguments)
                single = events is None or name.startswith("handle_tool")
                seen.append([events] if single else list(events))
            except Exception as error:
                seen.append((type(error).__name__, str(error)))
            seen.append(manager.get_parts())
        return seen

    same(scenario)


def test_details_by_function():
    manager = ModelResponsePartsManager()
    manager.handle_thinking_delta(vendor_part_id=1, content="a", provider_details={"n": 1})
    manager.handle_thinking_delta(
        vendor_part_id=1, provider_details=lambda before: {"n": (before or {})["n"] + 1}
    )
    (part,) = manager.get_parts()
    assert part.provider_details == {"n": 2}
    with pytest.raises(UnexpectedModelBehavior, match="Cannot update a ThinkingPart with no content"):
        manager.handle_thinking_delta(vendor_part_id=1)


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


@pytest.mark.parametrize(("first", "second"), [({"a": 1}, "x"), ("{", {"b": 2})])
def test_dict_and_text_arguments_do_not_mix(first, second):
    manager = ModelResponsePartsManager()
    manager.handle_tool_call_delta(vendor_part_id=1, tool_name="f", args=first)
    with pytest.raises(UnexpectedModelBehavior, match="Cannot mix JSON text and dict arguments"):
        manager.handle_tool_call_delta(vendor_part_id=1, args=second)


@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=3), st.booleans()), max_size=30))
def test_deltas_add_up_and_parts_once_given_do_not_change(pieces):
    """The parts are what the start events and deltas say together, however often somebody looks."""
    manager = ModelResponsePartsManager()
    replayed = {}
    looked = []
    for number, content, look in pieces:
        if number == 2:
            events = [
                manager.handle_tool_call_delta(
                    vendor_part_id=2, tool_name=None if 2 in replayed else "f", args=content
                )
            ]
        else:
            events = manager.handle_text_delta(vendor_part_id=number, content=content)
        for event in events:
            if isinstance(event, PartStartEvent):
                replayed[number] = event.part.args if number == 2 else event.part.content
            else:
                assert isinstance(event, PartDeltaEvent)
                replayed[number] += event.delta.args_delta if number == 2 else event.delta.content_delta
        if look:
            parts = manager.get_parts()
            looked.append((parts, repr(parts)))
    values = [p.args if isinstance(p, ToolCallPart) else p.content for p in manager.get_parts()]
    assert values == list(replayed.values())
    assert all(repr(parts) == before for parts, before in looked)
