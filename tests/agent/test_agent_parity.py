"""The same scripts run with Pydantic AI 1.46 and with runmgr: nodes, messages, usage, output and errors have to be equal.

The scripts are data: what the model says in turn, what the run is given, how the agent is made. Where runmgr differs on
purpose there is a test beside, which says how.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pydantic
import pydantic_ai
import pydantic_ai.models.function as their_function
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import runmgr.agent
import runmgr.exceptions
import runmgr.messages
import runmgr.models.function as our_function
import runmgr.output
import runmgr.tools
import runmgr.usage

pytestmark = pytest.mark.filterwarnings(
    "ignore:`BuiltinTool:DeprecationWarning"
)  # Pydantic AI warns of its own events


class Out(pydantic.BaseModel):
    a: int


class Other(pydantic.BaseModel):
    b: str


@dataclass
class Script:
    """What happens in a run, in words of neither library."""

    responses: list[Any]
    prompt: Any = "hi"
    history: list[Any] | None = None
    agent: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] | None = None
    results: dict[str, Any] | None = None


def _lib(
    root: Any, messages: Any, exceptions: Any, tools: Any, output: Any, usage: Any, function: Any
) -> SimpleNamespace:
    return SimpleNamespace(
        Agent=root.Agent,
        capture=root.capture_run_messages,
        m=messages,
        e=exceptions,
        t=tools,
        o=output,
        u=usage,
        f=function,
    )


THEIRS = _lib(
    pydantic_ai,
    pydantic_ai.messages,
    pydantic_ai.exceptions,
    pydantic_ai,
    pydantic_ai,
    pydantic_ai,
    their_function,
)
OURS = _lib(
    runmgr.agent, runmgr.messages, runmgr.exceptions, runmgr.tools, runmgr.output, runmgr.usage, our_function
)


def part(lib: Any, spec: Any) -> Any:
    kind, *rest = spec
    m = lib.m
    if kind == "text":
        return m.TextPart(rest[0])
    if kind == "think":
        return m.ThinkingPart(rest[0])
    if kind == "call":
        return m.ToolCallPart(rest[0], rest[1], rest[2])
    if kind == "builtin":
        return m.BuiltinToolCallPart("web", {}, "b1")
    if kind == "builtin_return":
        return m.BuiltinToolReturnPart("web", "found", "b1")
    if kind == "user":
        return m.UserPromptPart(rest[0])
    if kind == "system":
        return m.SystemPromptPart(rest[0])
    if kind == "return":
        return m.ToolReturnPart(rest[0], rest[1], rest[2])
    raise AssertionError(kind)


def message(lib: Any, spec: Any) -> Any:
    kind, parts, *more = spec
    options = more[0] if more else {}
    made = [part(lib, p) for p in parts]
    if kind == "request":
        return lib.m.ModelRequest(parts=made, **options)
    return response(lib, made, options)


def response(lib: Any, parts: list[Any], options: dict[str, Any]) -> Any:
    options = dict(options)
    usage = options.pop("usage", {"input_tokens": 3, "output_tokens": 2})
    return lib.m.ModelResponse(parts=parts, usage=lib.u.RequestUsage(**usage), **options)


def make_agent(lib: Any, script: Script) -> Any:
    said = iter(script.responses)

    def model(messages: Any, info: Any) -> Any:
        spec = next(said, None)
        if spec is None:
            return response(lib, [lib.m.TextPart("nothing more to say")], {})
        parts, options = spec if isinstance(spec, tuple) else (spec, {})
        return response(lib, [part(lib, p) for p in parts], options)

    options = dict(script.agent)
    output = options.pop("output", None)
    if output is not None:
        options["output_type"] = output_type(lib, output)
    agent = lib.Agent(lib.f.FunctionModel(model), **options)

    @agent.tool_plain
    async def double(x: int) -> int:
        return 2 * x

    @agent.tool_plain
    async def picky(x: int) -> str:
        if x < 0:
            raise lib.e.ModelRetry(f"{x} is negative")
        return f"picked {x}"

    if output and "deferred" in output:

        @agent.tool_plain(requires_approval=True)
        async def guarded(x: int) -> str:
            return f"guarded {x}"

        @agent.tool_plain
        async def later(x: int) -> str:
            raise lib.e.CallDeferred(metadata={"x": x})

    return agent


def output_type(lib: Any, names: list[str]) -> Any:
    def checked(a: int) -> Out:
        if a < 0:
            raise lib.e.ModelRetry("not negative, please")
        return Out(a=a)

    kinds = {
        "str": str,
        "int": int,
        "Out": Out,
        "Other": Other,
        "tool": lib.o.ToolOutput(Out, name="give"),
        "native": lib.o.NativeOutput(Out),
        "prompted": lib.o.PromptedOutput(Out),
        "function": checked,
        "deferred": lib.t.DeferredToolRequests,
    }
    found = [kinds[name] for name in names]
    return found[0] if len(found) == 1 else found


async def play(lib: Any, script: Script) -> dict[str, Any]:
    agent = make_agent(lib, script)
    options = dict(script.run)
    if script.history is not None:
        options["message_history"] = [message(lib, spec) for spec in script.history]
    if script.limits is not None:
        options["usage_limits"] = lib.u.UsageLimits(**script.limits)
    if script.results is not None:
        approvals = {
            k: lib.t.ToolDenied(v)
            if isinstance(v, str)
            else lib.t.ToolApproved(override_args=v)
            if isinstance(v, dict)
            else v
            for k, v in script.results.get("approvals", {}).items()
        }
        options["deferred_tool_results"] = lib.t.DeferredToolResults(
            calls=script.results.get("calls", {}), approvals=approvals
        )
    nodes: list[str] = []
    run: Any = None
    error: Any = None
    try:
        async with agent.iter(script.prompt, **options) as run:
            async for node in run:
                nodes.append(type(node).__name__)  # noqa: PERF401 (those before an error count too)
    except BaseException as raised:
        error = raised
    told: dict[str, Any] = {"nodes": nodes}
    if error is not None:
        told["error"] = f"{type(error).__name__}: {error}".split("Expected: {")[0].split(", body:")[0]
    if run is not None:
        told["usage"] = repr(run.usage())
        told["output"] = None if run.result is None else repr(run.result.output)
        told["messages"] = plain(run.all_messages_json())
        told["new"] = plain(run.new_messages_json())
    return told


RANDOM = ("timestamp", "run_id", "model_name")


def plain(data: bytes) -> Any:
    """Messages without what differs from run to run."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: strip(item) for key, item in sorted(value.items()) if key not in RANDOM}
            if str(kept.get("tool_call_id", "")).startswith("pyd_ai_"):
                kept["tool_call_id"] = "random"
            return kept
        if isinstance(value, list):
            return [strip(item) for item in value]
        return value

    return strip(json.loads(data))


def both(script: Script) -> tuple[dict[str, Any], dict[str, Any]]:
    return asyncio.run(play(THEIRS, script)), trio.run(play, OURS, script)


def same(script: Script) -> dict[str, Any]:
    theirs, ours = both(script)
    if "error" in ours and "exceeded max retries" in ours["error"]:
        # Which siblings of a call that fails had succeeded by then, or failed first, is chance in Pydantic AI.
        for told in (theirs, ours):
            told["error"] = re.sub(r"Tool '\w+'", "A tool", told["error"])
            told["usage"] = re.sub(r", tool_calls=\d+", "", told["usage"])
    assert ours == theirs
    return ours


T = lambda text: ("text", text)
C = lambda name, args, call_id="c1": ("call", name, args, call_id)
TALK = [("request", [("user", "before")]), ("response", [T("an answer")])]
ASKED = [("request", [("user", "before")]), ("response", [C("double", {"x": 4})])]

SCRIPTS = {
    "text": Script([[T("hello")]]),
    "two texts": Script([[T("a"), T("b")]]),
    "text around thoughts": Script([[T("a"), ("think", "hm"), T("b")]]),
    "text after a provider's tool": Script([[T("a"), ("builtin",), ("builtin_return",), T("b")]]),
    "only a provider's tool": Script([[("builtin",), ("builtin_return",)], [T("x")]]),
    "tool, then text": Script([[C("double", {"x": 2})], [T("4")]]),
    "tool with JSON arguments": Script([[C("double", '{"x": 2}')], [T("4")]]),
    "text beside a tool": Script([[T("let me"), C("double", {"x": 2})], [T("4")]]),
    "two tools": Script([[C("double", {"x": 2}, "c1"), C("picky", {"x": 1}, "c2")], [T("ok")]]),
    "empty, then text": Script([[], [T("x")]]),
    "empty twice": Script([[], [], [T("x")]]),
    "empty with a finish reason": Script([([], {"finish_reason": "stop"}), [T("x")]]),
    "empty text": Script([[T("")], [T("x")]]),
    "thoughts only": Script([[("think", "hm")], [T("x")]]),
    "thoughts only twice": Script([[("think", "hm")], [("think", "hm")], [T("x")]]),
    "said it beside the tool": Script([[T("it is 4"), C("double", {"x": 2})], []]),
    "said it beside the tool, then thinks": Script(
        [[T("it is 4"), C("double", {"x": 2})], [("think", "z")], [T("x")]]
    ),
    "cut before anything": Script([([], {"finish_reason": "length"})]),
    "cut, with max_tokens": Script(
        [([], {"finish_reason": "length"})], run={"model_settings": {"max_tokens": 7}}
    ),
    "cut in a tool call": Script([([C("double", '{"x": ')], {"finish_reason": "length"}), [T("x")]]),
    "cut twice in a tool call": Script([([C("double", '{"x": ')], {"finish_reason": "length"})] * 2),
    "cut twice in an output": Script(
        [([C("final_result", '{"a": ')], {"finish_reason": "length"})] * 2, agent={"output": ["Out"]}
    ),
    "filtered": Script([([], {"finish_reason": "content_filter"})]),
    "filtered after text": Script([([T("x")], {"finish_reason": "content_filter"})]),
    "unknown tool": Script([[C("nope", {})], [T("x")]]),
    "unknown tool twice": Script([[C("nope", {})], [C("nope", {}, "c2")], [T("x")]]),
    "unknown tools beside a known one": Script(
        [[C("nope", {}, "c1"), C("double", {"x": 1}, "c2"), C("nada", {}, "c3")], [T("x")]]
    ),
    "unknown tool after a good one": Script(
        [[C("nope", {})], [C("double", {"x": 1}, "c2")], [C("nope", {}, "c3")]]
    ),
    "bad arguments": Script([[C("double", {"x": "a"})], [T("x")]]),
    "bad JSON": Script([[C("double", '{"x"')], [T("x")]]),
    "bad arguments twice": Script([[C("double", {"x": "a"})], [C("double", {"y": 1})], [T("x")]]),
    "retry": Script([[C("picky", {"x": -1})], [C("picky", {"x": 1}, "c2")], [T("x")]]),
    "too many retries": Script([[C("picky", {"x": -1})], [C("picky", {"x": -2}, "c2")], [T("x")]]),
    "more retries": Script([[C("picky", {"x": -n})] for n in range(1, 5)], agent={"retries": 2}),
    "success resets": Script(
        [[C("picky", {"x": -1})], [C("picky", {"x": 1})], [C("picky", {"x": -1})], [T("x")]]
    ),
    "structured": Script([[C("final_result", {"a": 1})]], agent={"output": ["Out"]}),
    "structured, as text": Script([[T('{"a": 1}')]], agent={"output": ["Out"]}),
    "structured, bad text": Script([[T("x")], [C("final_result", {"a": 1})]], agent={"output": ["Out"]}),
    "structured, bad text twice": Script([[T("x")], [T("y")]], agent={"output": ["Out"]}),
    "structured, nothing": Script([[], [C("final_result", {"a": 1})]], agent={"output": ["Out"]}),
    "structured, thoughts": Script(
        [[("think", "x")], [C("final_result", {"a": 1})]], agent={"output": ["Out"]}
    ),
    "structured, invalid": Script(
        [[C("final_result", {"a": "x"})], [C("final_result", {"a": 1}, "c2")]], agent={"output": ["Out"]}
    ),
    "structured, invalid twice": Script([[C("final_result", {"a": "x"})]] * 2, agent={"output": ["Out"]}),
    "structured, no retries": Script(
        [[C("final_result", {"a": "x"})]], agent={"output": ["Out"], "output_retries": 0}
    ),
    "structured, more retries": Script(
        [[T("x")], [T("y")], [C("final_result", {"a": 1})]], agent={"output": ["Out"], "output_retries": 2}
    ),
    "named output tool": Script([[T("x")], [C("give", {"a": 1})]], agent={"output": ["tool"]}),
    "union": Script([[C("final_result_Other", {"b": "x"})]], agent={"output": ["Out", "Other"]}),
    "union as text": Script(
        [[T('{"a": 1}')], [C("final_result_Out", {"a": 1})]], agent={"output": ["Out", "Other"]}
    ),
    "text or structured: text": Script([[T("x")]], agent={"output": ["str", "Out"]}),
    "text or structured: tool": Script(
        [[T("x"), C("final_result", {"a": 1})]], agent={"output": ["str", "Out"]}
    ),
    "primitive": Script([[C("final_result", {"response": 3})]], agent={"output": ["int"]}),
    "primitive as text": Script([[T("3")], [C("final_result", {"response": 3})]], agent={"output": ["int"]}),
    "native": Script([[T("nope")], [T('{"a": 1}')]], agent={"output": ["native"]}),
    "prompted": Script([[T('```json\n{"a": 1}\n```')]], agent={"output": ["prompted"]}),
    "output function": Script(
        [[C("final_result", {"a": -1})], [C("final_result", {"a": 1}, "c2")]], agent={"output": ["function"]}
    ),
    "requests": Script([[C("double", {"x": 2})], [T("x")]], limits={"request_limit": 1}),
    "no requests": Script([[T("x")]], limits={"request_limit": 0}),
    "tool calls": Script(
        [[C("double", {"x": 2}, "c1"), C("double", {"x": 3}, "c2")]], limits={"tool_calls_limit": 1}
    ),
    "failed tool calls do not count": Script(
        [[C("picky", {"x": -1})], [C("picky", {"x": 1}, "c2")], [T("x")]], limits={"tool_calls_limit": 1}
    ),
    "unknown tool calls count before": Script([[C("nope", {})]], limits={"tool_calls_limit": 0}),
    "output tools do not count": Script(
        [[C("double", {"x": 2}, "c1"), C("final_result", {"a": 1}, "c2")]],
        agent={"output": ["Out"]},
        limits={"tool_calls_limit": 0},
    ),
    "tokens within the limit": Script([[T("x")]], limits={"total_tokens_limit": 5, "input_tokens_limit": 3}),
    "instructions": Script(
        [[C("double", {"x": 2})], [T("x")]], agent={"instructions": [" be brief ", "and kind"]}
    ),
    "instructions of the run": Script(
        [[T("x")]], agent={"instructions": "one"}, run={"instructions": ["two", "three"]}
    ),
    "system prompts": Script([[T("x")]], agent={"system_prompt": ("one", "two")}),
    "system prompts and a history": Script([[T("x")]], history=TALK, agent={"system_prompt": "one"}),
    "system prompts and an empty history": Script([[T("x")]], history=[], agent={"system_prompt": "one"}),
    "prompt of several parts": Script([[T("x")]], prompt=["one", "two"]),
    "empty prompt list": Script([[T("x")]], prompt=[]),
    "nothing at all": Script([[T("x")]], prompt=None),
    "only instructions": Script([[T("x")]], prompt=None, agent={"instructions": "go"}),
    "only a system prompt": Script([[T("x")]], prompt=None, agent={"system_prompt": "go"}),
    "history and prompt": Script([[T("x")]], history=TALK),
    "history only": Script([[T("x")]], prompt=None, history=TALK),
    "history and instructions": Script(
        [[T("x")]], prompt=None, history=TALK, agent={"instructions": "go on"}
    ),
    "history ends in a request": Script([[C("double", {"x": 2})], [T("x")]], prompt=None, history=TALK[:1]),
    "history ends in a request, and a prompt": Script([[T("x")]], history=TALK[:1]),
    "history ends in two requests": Script(
        [[T("x")]], prompt=None, history=[*TALK, ("request", [("user", "a")]), ("request", [("user", "b")])]
    ),
    "requests in a row, different instructions": Script(
        [[T("x")]],
        history=[
            ("request", [("user", "a")], {"instructions": "one"}),
            ("request", [("user", "b")], {"instructions": "two"}),
            ("response", [T("y")]),
        ],
    ),
    "requests in a row, answers first": Script(
        [[T("x")]],
        history=[
            *ASKED,
            ("request", [("user", "b")], {"instructions": "two"}),
            ("request", [("return", "double", 8, "c1")]),
            ("response", [T("y")]),
        ],
    ),
    "responses in a row": Script([[T("x")]], history=[*TALK, ("response", [T("more")], {"usage": {}})]),
    "unanswered calls": Script([[T("8")]], prompt=None, history=ASKED),
    "unanswered calls and a prompt": Script([[T("8")]], history=ASKED),
    "deferred": Script(
        [[C("double", {"x": 1}, "c0"), C("guarded", {"x": 2}, "c1"), C("later", {"x": 3}, "c2")]],
        agent={"output": ["str", "deferred"]},
    ),
    "deferred, answered": Script(
        [[T("done")]],
        prompt=None,
        history=[
            ("request", [("user", "a")]),
            (
                "response",
                [C("double", {"x": 1}, "c0"), C("guarded", {"x": 2}, "c1"), C("later", {"x": 3}, "c2")],
            ),
            ("request", [("return", "double", 2, "c0")]),
        ],
        agent={"output": ["str", "deferred"]},
        results={"calls": {"c2": "from outside"}, "approvals": {"c1": {"x": 9}}},
    ),
    "deferred, denied, and a prompt": Script(
        [[T("done")]],
        prompt="and?",
        history=[
            ("request", [("user", "a")]),
            ("response", [C("guarded", {"x": 2}, "c1"), C("guarded", {"x": 3}, "c2")]),
        ],
        agent={"output": ["str", "deferred"]},
        results={"approvals": {"c1": "no way", "c2": False}},
    ),
    "deferred, not all answered": Script(
        [[T("done")]],
        prompt=None,
        history=[
            ("request", [("user", "a")]),
            ("response", [C("guarded", {"x": 2}, "c1"), C("guarded", {"x": 3}, "c2")]),
        ],
        agent={"output": ["str", "deferred"]},
        results={"approvals": {"c1": True}},
    ),
    "results without a history": Script(
        [[T("x")]], agent={"output": ["str", "deferred"]}, results={"calls": {"c": 1}}
    ),
    "results, but no calls": Script(
        [[T("x")]], history=TALK, agent={"output": ["str", "deferred"]}, results={"calls": {"c": 1}}
    ),
    "results, but no response": Script(
        [[T("x")]], history=TALK[:1], agent={"output": ["str", "deferred"]}, results={"calls": {"c": 1}}
    ),
}

MIXED = [
    C("double", {"x": 1}, "c0"),
    C("final_result", {"a": "x"}, "f0"),
    C("final_result", {"a": 1}, "f1"),
    C("picky", {"x": -1}, "c1"),
    C("final_result", {"a": 2}, "f2"),
    C("final_result", {"a": "z"}, "f3"),
    C("nope", {}, "n1"),
]
for strategy in ("early", "exhaustive"):
    for retries in (0, 1, 3):
        SCRIPTS[f"mixed calls, {strategy}, {retries} retries"] = Script(
            [MIXED, [C("final_result", {"a": 9}, "f9")]],
            agent={"output": ["Out"], "end_strategy": strategy, "retries": retries},
        )
    SCRIPTS[f"all outputs invalid, {strategy}"] = Script(
        [
            [
                C("final_result", {"a": "x"}, "f1"),
                C("double", {"x": 1}, "c1"),
                C("final_result", {"a": "y"}, "f2"),
            ]
        ]
        + [[C("final_result", {"a": 1}, "f3")]],
        agent={"output": ["Out"], "end_strategy": strategy, "retries": 2},
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_as_in_pydantic_ai(name):
    ours = same(SCRIPTS[name])
    assert ours["nodes"] or "error" in ours


# ------------------------------------------------------------------ differences on purpose


def test_a_response_over_a_token_limit_is_in_the_history_too():
    theirs, ours = both(Script([[T("x")]], limits={"output_tokens_limit": 1}))
    assert (
        ours["error"]
        == theirs["error"]
        == "UsageLimitExceeded: Exceeded the output_tokens_limit of 1 (output_tokens=2)"
    )
    assert ours["usage"] == theirs["usage"]
    assert len(theirs["messages"]) == 1
    assert [m["kind"] for m in ours["messages"]] == ["request", "response"]


def test_an_empty_response_is_not_answered_from_an_older_run():
    theirs, ours = both(Script([[], [T("new")]], history=TALK))
    assert theirs["output"] == "'an answer'"
    assert ours["output"] == "'new'"


def test_unanswered_calls_are_run_with_instructions_too():
    theirs, ours = both(Script([[T("8")]], prompt=None, history=ASKED, agent={"instructions": "go"}))
    assert theirs["nodes"][1] == "ModelRequestNode"
    assert ours["nodes"] == ["UserPromptNode", "CallToolsNode", "ModelRequestNode", "CallToolsNode", "End"]
    assert ours["new"][0]["parts"][0]["content"] == 8


# ------------------------------------------------------------------ random scripts

_call = st.one_of(
    st.tuples(
        st.just("call"), st.just("double"), st.sampled_from([{"x": 1}, {"x": "a"}, '{"x": 3}', '{"x"', None])
    ),
    st.tuples(st.just("call"), st.just("picky"), st.sampled_from([{"x": 1}, {"x": -1}])),
    st.tuples(
        st.just("call"), st.just("final_result"), st.sampled_from([{"a": 1}, {"a": "x"}, '{"a": 2}', "{"])
    ),
    st.tuples(st.just("call"), st.just("nope"), st.just({})),
)
_part = st.one_of(
    st.tuples(st.just("text"), st.sampled_from(["", "hello", '{"a": 5}'])),
    st.tuples(st.just("think"), st.just("hm")),
    _call,
)


@st.composite
def scripts(draw):
    count = 0
    responses = []
    for spec in draw(st.lists(st.lists(_part, max_size=4), min_size=1, max_size=5)):
        parts = []
        for item in spec:
            if item[0] == "call":
                count += 1
                item = (*item, f"c{count}")
            parts.append(item)
        reason = draw(st.sampled_from([None, None, None, "stop", "length", "content_filter"]))
        responses.append(
            (parts, {"finish_reason": reason, "usage": {"input_tokens": draw(st.integers(0, 5))}})
        )
    output = draw(
        st.sampled_from([["str"], ["Out"], ["str", "Out"], ["tool"], ["native"], ["str", "deferred"]])
    )
    return Script(
        responses,
        agent={
            "output": output,
            "retries": draw(st.integers(0, 2)),
            "end_strategy": draw(st.sampled_from(["early", "exhaustive"])),
        },
        limits=draw(
            st.one_of(
                st.none(),
                st.fixed_dictionaries(
                    {"request_limit": st.integers(0, 4), "tool_calls_limit": st.integers(0, 3)}
                ),
            )
        ),
    )


@settings(max_examples=150, deadline=None)
@given(scripts())
def test_random_scripts_run_as_in_pydantic_ai(script):
    same(script)
