"""Usage adds up, limits stop, and both agree with Pydantic AI 1.46."""

import copy
import dataclasses
import inspect
import json

import msgspec
import pydantic
import pydantic_ai.exceptions
import pydantic_ai.usage as theirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runmgr.usage as ours
from runmgr.exceptions import UsageLimitExceeded
from runmgr.usage import RequestUsage, RunUsage, UsageLimits

COUNTS = [name for name in RequestUsage.__struct_fields__ if name != "details"]
counts = st.integers(0, 10**9) | st.just(0)
details = st.dictionaries(st.sampled_from(["reasoning_tokens", "b", "c"]), counts)
arguments = st.fixed_dictionaries({name: counts for name in COUNTS} | {"details": details})
run_arguments = st.fixed_dictionaries(
    {name: counts for name in [*COUNTS, "requests", "tool_calls"]} | {"details": details}
)


def test_names_and_arguments_are_theirs():
    for name in ("RequestUsage", "RunUsage", "UsageLimits"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert set(inspect.signature(mine).parameters) == set(inspect.signature(other).parameters)
        for attribute in vars(other):
            assert attribute.startswith("_") or hasattr(mine, attribute), attribute


@given(run_arguments, run_arguments, arguments)
def test_addition_mutates_no_operand_and_incr_only_the_first(a, b, c):
    first, second, request = (
        RunUsage(**copy.deepcopy(a)),
        RunUsage(**copy.deepcopy(b)),
        RequestUsage(**copy.deepcopy(c)),
    )
    total = first + second + request
    assert first == RunUsage(**a)
    assert second == RunUsage(**b)
    assert request == RequestUsage(**c)
    for name in COUNTS:
        assert getattr(total, name) == a[name] + b[name] + c[name]
    assert total.requests == a["requests"] + b["requests"]
    assert total.tool_calls == a["tool_calls"] + b["tool_calls"]
    keys = {*a["details"], *b["details"], *c["details"]}
    assert total.details == {key: sum(each["details"].get(key, 0) for each in (a, b, c)) for key in keys}
    first.incr(second)
    first.incr(request)
    assert first == total
    assert second == RunUsage(**b)
    total.details["b"] = -1
    assert second == RunUsage(**b)


@given(arguments, arguments)
def test_request_usages_add_up_too(a, b):
    first = RequestUsage(**copy.deepcopy(a))
    total = first + RequestUsage(**copy.deepcopy(b))
    assert isinstance(total, RequestUsage)
    assert first == RequestUsage(**a)
    assert total.input_tokens == a["input_tokens"] + b["input_tokens"]
    first.incr(RequestUsage(**b))
    assert first == total
    assert first.requests == 1


@given(run_arguments)
def test_a_run_is_described_as_theirs(a):
    mine, other = RunUsage(**a), theirs.RunUsage(**a)
    assert mine.opentelemetry_attributes() == other.opentelemetry_attributes()
    assert mine.total_tokens == other.total_tokens
    assert mine.has_values() == other.has_values()
    assert dataclasses.asdict(mine) == dataclasses.asdict(other)
    assert sorted(repr(mine)) == sorted(repr(other))
    assert json.loads(msgspec.json.encode(mine)) == dataclasses.asdict(other)
    adapter, other_adapter = pydantic.TypeAdapter(RunUsage), pydantic.TypeAdapter(theirs.RunUsage)
    assert adapter.validate_json(other_adapter.dump_json(other)) == mine
    assert other_adapter.validate_json(adapter.dump_json(mine)) == other


def test_defaults_and_reprs():
    assert repr(RunUsage()) == "RunUsage()"
    assert repr(RunUsage(requests=1, details={"a": 0})) == "RunUsage(details={'a': 0}, requests=1)"
    assert repr(UsageLimits()) == "UsageLimits()" == repr(theirs.UsageLimits())
    assert not RunUsage().has_values()
    assert RunUsage(requests=1).has_values()
    assert RunUsage().details is not RunUsage().details
    assert RunUsage() != RequestUsage()
    assert copy.copy(RunUsage(requests=2)) == RunUsage(requests=2)
    assert dataclasses.replace(UsageLimits(request_limit=None), tool_calls_limit=3).request_limit is None


def test_null_details_of_providers_are_skipped():
    usage = RunUsage()
    usage.incr(RequestUsage(details={"a": None, "b": 1}))
    assert usage.details == {"b": 1}


def test_old_names():
    usage = RequestUsage(input_tokens=3, output_tokens=4)
    with pytest.warns(DeprecationWarning, match="use `input_tokens` instead"):
        assert usage.request_tokens == 3
    with pytest.warns(DeprecationWarning, match="use `output_tokens` instead"):
        assert usage.response_tokens == 4
    with pytest.warns(DeprecationWarning, match="use `RunUsage` instead"):
        old = ours.Usage(requests=2)
    assert isinstance(old, RunUsage)
    assert (RunUsage() + old).requests == 2
    limits = UsageLimits(request_tokens_limit=5, response_tokens_limit=6)
    assert limits == UsageLimits(input_tokens_limit=5, output_tokens_limit=6)
    for data in (
        {"request_tokens": 3, "response_tokens": 4, "details": None},
        {"input_tokens": 3, "request_tokens": 9, "output_tokens": "4", "unknown": 1},
    ):
        assert pydantic.TypeAdapter(RequestUsage).validate_python(data) == usage


USED = {"requests": 50, "input_tokens": 10, "output_tokens": 20, "tool_calls": 3}


@pytest.mark.parametrize(
    ("limits", "check"),
    [
        ({}, "check_before_request"),
        ({"request_limit": 51}, "check_before_request"),
        ({"request_limit": None}, "check_before_request"),
        ({"request_limit": 100, "input_tokens_limit": 5}, "check_before_request"),
        ({"request_limit": 100, "input_tokens_limit": 10}, "check_before_request"),
        ({"request_limit": None, "total_tokens_limit": 5}, "check_before_request"),
        ({"request_limit": 51, "output_tokens_limit": 5}, "check_before_request"),
        ({"input_tokens_limit": 5}, "check_tokens"),
        ({"output_tokens_limit": 5}, "check_tokens"),
        ({"total_tokens_limit": 5}, "check_tokens"),
        ({"total_tokens_limit": 30}, "check_tokens"),
        ({"input_tokens_limit": 10, "output_tokens_limit": 20}, "check_tokens"),
        ({}, "check_tokens"),
        ({"tool_calls_limit": 2}, "check_before_tool_call"),
        ({"tool_calls_limit": 3}, "check_before_tool_call"),
        ({}, "check_before_tool_call"),
    ],
)
def test_limits_speak_as_theirs(limits, check):
    def outcome(module, error):
        try:
            return getattr(module.UsageLimits(**limits), check)(module.RunUsage(**USED))
        except error as raised:
            return str(raised)

    assert outcome(ours, UsageLimitExceeded) == outcome(theirs, pydantic_ai.exceptions.UsageLimitExceeded)


def test_a_limit_of_zero_is_a_limit():
    assert UsageLimits(input_tokens_limit=0).has_token_limits()
    with pytest.raises(UsageLimitExceeded, match="Exceeded the output_tokens_limit of 0"):
        UsageLimits(output_tokens_limit=0).check_tokens(RunUsage(output_tokens=1))
    with pytest.raises(UsageLimitExceeded, match="request_limit of 0"):
        UsageLimits(request_limit=0).check_before_request(RunUsage())
    assert not UsageLimits(request_limit=1, tool_calls_limit=1).has_token_limits()


BODY = {"model": "gpt-4o", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


@pytest.mark.parametrize(
    ("data", "provider", "url"),
    [
        (BODY, "openai", "https://api.openai.com/v1"),
        (BODY, "unheard-of", "https://api.openai.com/v1"),
        (BODY, "unheard-of", "https://proxy.example"),
        ({"model": "gpt-4o"}, "openai", "https://api.openai.com/v1"),
        (BODY | {"usage": {**BODY["usage"], "prompt_tokens_details": {"cached_tokens": 2}}}, "openai", ""),
    ],
)
def test_extract(data, provider, url):
    arguments = {
        "provider": provider,
        "provider_url": url,
        "provider_fallback": "openai",
        "api_flavor": "chat",
        "details": {"x": 1, "y": 0},
    }
    mine, other = RequestUsage.extract(data, **arguments), theirs.RequestUsage.extract(data, **arguments)
    assert dataclasses.asdict(mine) == dataclasses.asdict(other)
