"""Built-in tools as values: the same fields, kinds and names as Pydantic AI's."""

import dataclasses

import pydantic_ai.builtin_tools as theirs
import pytest

import runmgr.builtin_tools as ours

NEEDED = {"MCPServerTool": {"id": "x", "url": "u"}, "FileSearchTool": {"file_store_ids": ["1"]}}
NAMES = sorted(tool.__name__ for tool in theirs.SUPPORTED_BUILTIN_TOOLS)


@pytest.mark.parametrize("name", NAMES)
def test_tools_are_pydantic_ais(name):
    mine, other = (getattr(module, name)(**NEEDED.get(name, {})) for module in (ours, theirs))
    assert dataclasses.asdict(mine) == dataclasses.asdict(other)
    assert repr(mine) == repr(other)
    assert (mine.kind, mine.unique_id, mine.label) == (other.kind, other.unique_id, other.label)
    assert mine == dataclasses.replace(mine)


def test_every_kind_is_known():
    for mine, other in (
        (ours.BUILTIN_TOOL_TYPES, theirs.BUILTIN_TOOL_TYPES),
        (
            {t.__name__: t for t in ours.SUPPORTED_BUILTIN_TOOLS},
            {t.__name__: t for t in theirs.SUPPORTED_BUILTIN_TOOLS},
        ),
        (
            {t.__name__: t for t in ours.DEPRECATED_BUILTIN_TOOLS},
            {t.__name__: t for t in theirs.DEPRECATED_BUILTIN_TOOLS},
        ),
    ):
        assert {kind: tool.__name__ for kind, tool in mine.items()} == {
            kind: tool.__name__ for kind, tool in other.items()
        }


def test_a_tool_of_ones_own_registers_itself(monkeypatch):
    monkeypatch.setattr(ours, "BUILTIN_TOOL_TYPES", ours.BUILTIN_TOOL_TYPES.copy())

    @dataclasses.dataclass(kw_only=True)
    class MyTool(ours.AbstractBuiltinTool):
        kind: str = "my_tool"

    assert ours.BUILTIN_TOOL_TYPES["my_tool"] is MyTool
    assert MyTool().label == "My Tool"
