"""What an agent and a run can be given, and what overrides what."""

import gc
import subprocess
import sys
import weakref
from dataclasses import dataclass
from typing import Annotated

import msgspec
import pytest
import trio
from pydantic import BaseModel, field_validator

from runmgr.agent import AbstractAgent, Agent, WrapperAgent
from runmgr.builtin_tools import WebSearchTool
from runmgr.exceptions import UserError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.models.test import TestModel
from runmgr.output import NativeOutput, TextOutput, ToolOutput
from runmgr.tools import RunContext, Tool
from runmgr.toolsets import FunctionToolset


def telling(what, **options):
    """A model that notes something about each request."""
    noted = []

    def model(messages, info):
        noted.append(what(messages, info))
        return ModelResponse([TextPart("ok")])

    return FunctionModel(model, **options), noted


# ------------------------------------------------------------------ settings


async def test_settings_are_merged_model_agent_run():
    model, seen = telling(
        lambda m, i: i.model_settings, settings={"temperature": 0.1, "max_tokens": 1, "seed": 1}
    )
    agent = Agent(model, model_settings={"max_tokens": 2, "top_p": 0.2})
    await agent.run("?")
    await agent.run("?", model_settings={"top_p": 0.3, "temperature": 0.3})
    assert seen == [
        {"temperature": 0.1, "max_tokens": 2, "seed": 1, "top_p": 0.2},
        {"temperature": 0.3, "max_tokens": 2, "seed": 1, "top_p": 0.3},
    ]


async def test_settings_may_be_functions():
    model, seen = telling(lambda m, i: i.model_settings, settings={"seed": 1})

    def by_step(ctx: RunContext):
        return {"max_tokens": ctx.run_step}

    async def by_prompt(ctx: RunContext):
        return {"temperature": 0.5} if ctx.prompt == "warm" else None

    agent = Agent(model, model_settings=by_step)
    await agent.run("warm", model_settings=by_prompt)
    await agent.run("cold", model_settings=by_prompt)
    agent.model_settings = {"top_p": 0.1}
    await agent.run("?")
    assert seen == [
        {"seed": 1, "max_tokens": 1, "temperature": 0.5},
        {"seed": 1, "max_tokens": 1},
        {"seed": 1, "top_p": 0.1},
    ]


async def test_a_context_knows_the_settings(says, call):
    agent = Agent(says([call("look")], "x"), model_settings={"max_tokens": 3})
    seen = []

    @agent.tool
    async def look(ctx: RunContext) -> None:
        seen.append(ctx.model_settings)

    await agent.run("?", model_settings={"seed": 1})
    assert seen == [{"max_tokens": 3, "seed": 1}]


# ------------------------------------------------------------------ metadata


async def test_metadata():
    agent = Agent(TestModel(), metadata=lambda ctx: {"requests": ctx.usage.requests, "prompt": ctx.prompt})
    async with agent.iter("?", metadata={"run": 1}) as run:
        assert run.metadata == {"requests": 0, "prompt": "?", "run": 1}
        async for _ in run:
            pass
    assert run.metadata == run.result.metadata == {"requests": 1, "prompt": "?", "run": 1}
    with agent.override(metadata={"all": "mine"}):
        assert (await agent.run("?", metadata={"run": 1})).metadata == {"all": "mine"}
    assert (await Agent(TestModel()).run("?")).metadata is None


# ------------------------------------------------------------------ override


async def test_override_wins_over_the_run():
    model, seen = telling(lambda m, i: (i.instructions, [t.name for t in i.function_tools]))

    def one() -> None: ...

    def two() -> None: ...

    agent = Agent(TestModel(), instructions="agent's", tools=[one], name="agent", deps_type=int)

    @agent.instructions
    def deps(ctx: RunContext[int]) -> str:
        return str(ctx.deps)

    with agent.override(model=model, deps=2, name="other"):
        assert agent.name == "other"
        assert agent.model is model
        await agent.run("?", model=TestModel(), deps=1, instructions="run's")
        with agent.override(instructions="overridden", tools=[two]):
            await agent.run("?", instructions="run's")
            assert [t.name for ts in agent.toolsets for t in ts.tools.values()] == ["two"]
        with agent.override(toolsets=[FunctionToolset([two])]):
            await agent.run("?", toolsets=[FunctionToolset([one])], deps=1)
    assert agent.name == "agent"
    assert seen == [
        ("agent's\nrun's\n\n2", ["one"]),
        ("overridden", ["two"]),
        ("agent's\n\n2", ["one", "two"]),
    ]


async def test_an_override_is_this_tasks_and_its_childrens(autojump_clock):
    agent = Agent(TestModel(custom_output_text="original"))
    outputs = {}

    async def ask(key, delay=0.0):
        await trio.sleep(delay)
        outputs[key] = (await agent.run("?")).output

    async def overriding(nursery):
        with agent.override(model=TestModel(custom_output_text="overridden")):
            nursery.start_soon(ask, "child", 1)
            await ask("own")
            await trio.sleep(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(overriding, nursery)
        await trio.sleep(0.5)
        await ask("sibling")
    assert outputs == {"own": "overridden", "child": "overridden", "sibling": "original"}


async def test_overrides_of_other_agents_are_none_of_ours():
    agent, other = Agent(TestModel(custom_output_text="a")), Agent(TestModel(custom_output_text="b"))
    with other.override(model=TestModel(custom_output_text="c")):
        assert (await agent.run("?")).output == "a"
        assert (await other.run("?")).output == "c"


# ------------------------------------------------------------------ plans


async def test_constants_are_worked_out_once():
    model, seen = telling(lambda m, i: i.model_request_parameters)
    agent = Agent(model, tools=[lambda x: x] and [Tool(lambda x: x, name="tool")])
    for _ in range(3):
        await agent.run("?")
    assert seen[0] is seen[1] is seen[2]
    await agent.run("?", instructions="more", metadata={"a": 1}, model_settings={"seed": 1})
    assert seen[3] is seen[0], "what a run says besides changes nothing"
    agent.tool_plain(lambda y: y, name="other") if False else agent.tool_plain(name="other")(lambda y: y)
    await agent.run("?")
    assert [t.name for t in seen[4].function_tools] == ["tool", "other"]


async def test_output_types_of_single_runs_do_not_pile_up():
    agent = Agent(TestModel())
    types = []
    for _ in range(200):
        kind = type("Made", (BaseModel,), {"__annotations__": {"x": int}})
        types.append(weakref.ref(kind))
        assert (await agent.run("?", output_type=kind)).output.x == 0
    del kind
    gc.collect()
    assert sum(ref() is not None for ref in types) < 150


async def test_attributes_can_be_changed_between_runs(says, call):
    agent = Agent(says([call("final_result", {"response": 1}, "f"), call("look")]), output_type=int)

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    agent.end_strategy = "exhaustive"
    result = await agent.run("?")
    assert result.all_messages()[-1].parts[1].content == "seen"
    sent = []
    agent.history_processors = [lambda m: m[-1:]]
    agent.history_processors.append(lambda m: sent.append(len(m)) or m)
    agent.model = TestModel(call_tools=[])
    await agent.run("?", message_history=result.all_messages())
    assert sent == [1]


# ------------------------------------------------------------------ names, repr, fingerprint


async def test_names_are_inferred():
    my_agent = Agent(TestModel())
    await my_agent.run("?")
    assert my_agent.name == "my_agent"
    iterated = Agent(TestModel())
    async with iterated.iter("?"):
        pass
    assert iterated.name == "iterated"
    streamed = Agent(TestModel())
    async with streamed.run_stream("?"):
        pass
    assert streamed.name == "streamed"
    events = Agent(TestModel())
    async with events.run_stream_events("?"):
        pass
    assert events.name == "events"
    left_alone = Agent(TestModel())
    await left_alone.run("?", infer_name=False)
    assert left_alone.name is None
    named = Agent(TestModel(), name="given")
    await named.run("?")
    assert named.name == "given"


def test_names_are_inferred_in_sync_code():
    plain = Agent(TestModel())
    plain.run_sync("?")
    assert plain.name == "plain"


def test_repr():
    agent = Agent("test", name="x", output_type=int)
    assert repr(agent).startswith("Agent(model=TestModel(")
    assert repr(agent).endswith(
        "name='x', end_strategy='early', model_settings=None, output_type=<class 'int'>, instrument=None)"
    )


def double(x: int) -> int:
    """Double it."""
    return 2 * x


def make(**changes):
    options = {
        "instructions": "be brief",
        "tools": [double],
        "output_type": int,
        "model_settings": {"temperature": 0},
    }
    return Agent("test", **(options | changes))


def test_fingerprints_are_of_what_is_asked():
    assert make().fingerprint() == make(name="other name", retries=1).fingerprint()
    prints = {
        make(**changes).fingerprint()
        for changes in (
            {},
            {"instructions": "be kind"},
            {"tools": []},
            {"output_type": str},
            {"output_type": NativeOutput(int)},
            {"model_settings": {"temperature": 1}},
            {"model_settings": None},
            {"system_prompt": "x"},
            {"instructions": ["be brief", double]},
            {"end_strategy": "exhaustive"},
            {"retries": 3},
        )
    }
    assert len(prints) == 11


def test_fingerprints_are_the_same_in_every_process():
    code = (
        "from runmgr.agent import Agent\n"
        "def double(x: int) -> int:\n    'Double it.'\n    return 2 * x\n"
        "agent = Agent('test', instructions='be brief', tools=[double], output_type=int, model_settings={'temperature': 0})\n"
        "print(agent.fingerprint())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == make().fingerprint()


# ------------------------------------------------------------------ outputs


@dataclass
class Point:
    x: int


class Box(BaseModel):
    side: int


def area(side: int) -> float:
    """Area of a square."""
    return float(side * side)


def shout(text: str) -> bool:
    return text.isupper()


@pytest.mark.parametrize(
    ("output_type", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        ([str, int], {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        (area, {"type": "number"}),
        ([ToolOutput(area), TextOutput(shout)], {"anyOf": [{"type": "number"}, {"type": "boolean"}]}),
        (NativeOutput([int, str]), {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    ],
)
def test_output_json_schema(output_type, schema):
    assert Agent(output_type=output_type).output_json_schema() == schema
    assert Agent().output_json_schema(output_type) == schema


def test_output_json_schema_of_classes():
    schema = Agent(output_type=[Box, Point]).output_json_schema()
    assert [choice["title"] for choice in schema["anyOf"]] == ["Box", "Point"]


def test_output_json_schema_of_a_struct():
    class Grade(msgspec.Struct):
        grade: Annotated[int, msgspec.Meta(ge=1, le=5)]

    schema = Agent(output_type=[Grade, str]).output_json_schema()
    assert schema["anyOf"][0]["properties"] == {"grade": {"type": "integer", "minimum": 1, "maximum": 5}}
    assert schema["anyOf"][1] == {"type": "string"}


async def test_validation_context():
    class Multiplied(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def times(cls, n, info):
            return n * info.context

    model = TestModel(custom_output_args={"n": 3})
    assert (await Agent(model, output_type=Multiplied, validation_context=10).run("?")).output.n == 30
    agent = Agent(model, output_type=Multiplied, deps_type=int, validation_context=lambda ctx: ctx.deps)
    assert (await agent.run("?", deps=7)).output.n == 21


async def test_builtin_tools():
    class Searching(FunctionModel):
        pass

    model, seen = telling(lambda m, i: [t.kind for t in i.model_request_parameters.builtin_tools])
    search = WebSearchTool()
    await Agent(model, builtin_tools=[search]).run("?")

    async def sometimes(ctx: RunContext):
        return search if ctx.prompt == "search" else None

    agent = Agent(model, builtin_tools=[sometimes])
    await agent.run("search")
    await agent.run("?")
    await agent.run("?", builtin_tools=[search])
    assert seen == [["web_search"], ["web_search"], [], ["web_search"]]


# ------------------------------------------------------------------ wrappers


async def test_a_wrapper_does_what_its_agent_does():
    wrapped = Agent(TestModel(custom_output_text="x"), name="inner", deps_type=int)

    class Shouting(WrapperAgent):
        def iter(self, user_prompt=None, **options):
            return super().iter(f"{user_prompt}!", **options)

    agent = Shouting(wrapped)
    assert isinstance(agent, AbstractAgent)
    assert (agent.name, agent.model, agent.deps_type, agent.output_type) == ("inner", wrapped.model, int, str)
    assert agent.toolsets == wrapped.toolsets
    assert agent.event_stream_handler is None
    assert agent.output_json_schema() == {"type": "string"}
    result = await agent.run("hi")
    assert result.all_messages()[0].parts[0].content == "hi!"
    async with agent.run_stream("hi") as stream:
        assert await stream.get_output() == "x"
    with agent.override(model=TestModel(custom_output_text="y")):
        assert (await agent.run("hi")).output == "y"
    async with agent:
        agent.name = "renamed"
    assert wrapped.name == "renamed"
    assert agent.fingerprint() == Shouting(wrapped).fingerprint() != wrapped.fingerprint()


def test_wrong_arguments():
    with pytest.raises(UserError, match="Unknown keyword arguments: `retrys`"):
        Agent(retrys=3)
    with pytest.raises(UserError, match="nosuch"):
        Agent("nosuch:model")
    late = Agent("nosuch:model", defer_model_check=True)
    with pytest.raises(UserError, match="nosuch"):
        late.run_sync("?")


def test_importing_agents_imports_nothing_heavy():
    code = (
        "import sys, runmgr.agent\n"
        "heavy = {'opentelemetry', 'rich', 'jinja2', 'httpx2', 'pyarrow', 'genai_prices', 'asyncio', 'anyio', 'griffe'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_running_agents_imports_nothing_heavy():
    code = (
        "import sys\nfrom runmgr.agent import Agent\n"
        "assert Agent('test').run_sync('hi').output\n"
        "heavy = {'opentelemetry', 'rich', 'jinja2', 'httpx2', 'pyarrow', 'genai_prices', 'asyncio', 'anyio', 'griffe'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


async def test_metadata_that_is_asked_for_again_at_the_end_sees_the_run_as_it_ended(says, call):
    seen = []

    def describe(ctx):
        seen.append((ctx.run_step, ctx.usage.requests, len(ctx.messages)))
        return {"steps": ctx.run_step}

    agent = Agent(says([call("echo", {})], "done"), metadata=describe)
    agent.tool_plain(name="echo")(lambda: "x")
    assert (await agent.run("?")).metadata == {"steps": 2}
    assert seen == [(0, 0, 0), (2, 2, 4)]
