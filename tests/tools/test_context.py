import dataclasses

from pydantic_ai import RunContext as Theirs

from runmgr.tools import RunContext
from runmgr.usage import RunUsage


def test_fields_are_those_of_pydantic_ai_and_more():
    ours = {f.name: f for f in dataclasses.fields(RunContext)}
    for theirs in dataclasses.fields(Theirs):
        assert ours[theirs.name].default == theirs.default
        assert ours[theirs.name].kw_only
    assert set(ours) - {f.name for f in dataclasses.fields(Theirs)} == {
        "abandoned_threads",
        "model_settings",
        "supervisor",
    }


def test_a_copy_is_shallow_and_whole():
    values = {f.name: object() for f in dataclasses.fields(RunContext)}
    context = RunContext(**values)
    copied = context.copied()
    assert copied is not context
    assert {name: getattr(copied, name) for name in values} == values
    copied.tool_name = "other"
    assert context.tool_name is values["tool_name"]


def test_last_attempt():
    context = RunContext(deps=None, model=None, usage=RunUsage(), retry=1, max_retries=2)  # pyright: ignore
    assert not context.last_attempt
    assert dataclasses.replace(context, retry=2).last_attempt


def test_repr_shows_what_is_set():
    context = RunContext(deps=3, model=None, usage=RunUsage(requests=1), tool_name="t")  # pyright: ignore
    shown = repr(dataclasses.replace(context, tracer=None))  # pyright: ignore
    assert (
        shown
        == "RunContext(deps=3, model=None, usage=RunUsage(requests=1), messages=[], tracer=None, retries={}, "
        "tool_name='t')"
    )
