import pytest

from runmgr.batch import BatchConfig
from runmgr.batch.config import parse_failure_limit
from runmgr.batch.settings import parse_assignments, typed_settings
from runmgr.exceptions import UserError


def config(**options):
    return BatchConfig(**{"input": "in.jsonl", "model": "test", **options})


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"model": None}, "--model is needed"),
        ({"prompt": "x", "prompt_field": "y"}, "give one of them"),
        ({"retry_failed": True}, "--retry-failed goes with --resume"),
        ({"target_extract": "x"}, "--target-extract needs --target-field"),
        ({"max_running": 0}, "--max-running 0: must be at least 1"),
        ({"rpm": 0}, "--rpm 0: must be more than 0"),
        ({"timeout": -1}, "--timeout -1"),
        ({"retries": -1}, "--retries -1"),
        ({"epochs": 0}, "--epochs 0"),
        ({"limit": 0}, "--limit 0"),
        ({"budget_usd": "-1"}, "--budget-usd"),
        ({"max_failures": "many"}, "--max-failures many"),
        ({"max_failures": "120%"}, "--max-failures 120%"),
        ({"max_failures": "-1"}, "--max-failures -1"),
    ],
)
def test_what_is_refused(options, part):
    with pytest.raises(UserError) as caught:
        config(**options)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "total", "ended", "allowed"),
    [
        ("10", 5, 5, 10),
        ("0", 5, 5, 0),
        ("5%", 1000, 3, 50),
        ("5%", 999, 3, 49),
        ("29%", 100, 1, 29),
        ("50%", None, 4, 10),
        ("50%", None, 100, 50),
    ],
)
def test_failure_limits(text, total, ended, allowed):
    assert parse_failure_limit(text).allowed(total, ended) == allowed


def test_settings_are_typed_by_what_the_model_takes():
    values = parse_assignments(
        [
            "temperature=0",
            "max_tokens=400",
            'stop_sequences=["END"]',
            "parallel_tool_calls=false",
            "timeout=1.5",
            'extra_body={"a": 1}',
            "seed=1",
            "seed=2",
        ]
    )
    assert typed_settings(values, object()) == {
        "temperature": 0.0,
        "max_tokens": 400,
        "stop_sequences": ["END"],
        "parallel_tool_calls": False,
        "timeout": 1.5,
        "extra_body": {"a": 1},
        "seed": 2,
    }


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("temperature", "--set temperature: write it as KEY=VALUE"),
        ("=1", "write it as KEY=VALUE"),
        ("max_token=5", "--set max_token=5: no such model setting; did you mean 'max_tokens'?"),
        ("max_tokens=many", "--set max_tokens=many: Input should be a valid integer"),
        ("temperature=warm", "--set temperature=warm: Input should be a valid number"),
    ],
)
def test_settings_that_are_refused(word, part):
    with pytest.raises(UserError) as caught:
        typed_settings(parse_assignments([word]), object())
    assert part in str(caught.value)
