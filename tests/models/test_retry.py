"""When to send again, and after how long."""

import random
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from runmgr.exceptions import (
    MalformedResponseError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from runmgr.models.retry import (
    NO_RETRY,
    RetryClass,
    RetryPolicy,
    classify,
    delay,
    next_delay,
    resend,
    resend_stream,
    retry_after,
)


def status(code, body=None, **headers):
    return ModelHTTPError(code, "m", body, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModelConnectionError("m", ""), RetryClass.CONNECTION),
        (ModelTimeoutError("m", ""), RetryClass.TIMEOUT),
        (MalformedResponseError("m", ""), RetryClass.MALFORMED),
        (status(408), RetryClass.TIMEOUT),
        (status(409), RetryClass.CONFLICT),
        (status(429), RetryClass.RATE_LIMIT),
        (status(429, {"message": "x", "code": "rate_limit_exceeded"}), RetryClass.RATE_LIMIT),
        (status(429, {"error": {"type": "insufficient_quota"}}), None),
        (status(429, {"code": "insufficient_quota"}), None),
        (status(500), RetryClass.SERVER),
        (status(503), RetryClass.SERVER),
        (status(529), RetryClass.SERVER),
        (status(400), None),
        (status(401), None),
        (status(404), None),
        (status(422), None),
        (status(400, x_should_retry="true"), RetryClass.SERVER),
        (status(429, x_should_retry="true"), RetryClass.RATE_LIMIT),
        (status(500, x_should_retry="false"), None),
        (ModelAPIError("m", ""), None),
        (UnexpectedModelBehavior(""), None),
        (UsageLimitExceeded(""), None),
        (UserError(""), None),
        (ValueError(), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_what_may_be_sent_again(error, expected):
    assert classify(error) is expected


NOW = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after": "Sun, 01 Jun 2025 12:00:07 GMT"}, 7.0),
        ({"retry-after": "Sunday, 01-Jun-25 12:00:07 GMT"}, 7.0),
        ({"retry-after": "Sun Jun  1 12:00:07 2025"}, 7.0),
        ({"retry-after": "Sun, 01 Jun 2025 11:00:00 GMT"}, 0.0),
        # the server's clock may be wrong, but it is wrong in both headers
        ({"retry-after": "Sun, 01 Jun 2025 14:00:07 GMT", "date": "Sun, 01 Jun 2025 14:00:00 GMT"}, 7.0),
        ({"retry-after": "Sun, 32 Jun 2025 12:00:07 GMT"}, None),
    ],
)
def test_retry_after(headers, expected):
    assert retry_after(ModelHTTPError(429, "m", headers=headers), now=NOW.timestamp) == expected


def test_retry_after_of_other_errors():
    assert retry_after(ModelTimeoutError("m", "")) is None


@given(st.integers(0, 10**6))
def test_http_dates_round_trip(seconds):
    header = format_datetime(datetime.fromtimestamp(NOW.timestamp() + seconds, UTC), usegmt=True)
    assert retry_after(status(503, retry_after=header), now=NOW.timestamp) == seconds


@given(st.integers(1, 200), st.integers(0, 2**32), st.floats(0.01, 10), st.floats(0.01, 100))
def test_full_jitter(attempt, seed, base, cap):
    policy = RetryPolicy(base=base, cap=cap)
    wait = delay(attempt, policy, random.Random(seed))
    assert 0 <= wait <= min(cap, base * 2 ** min(attempt - 1, 60))
    assert wait == delay(attempt, policy, random.Random(seed))
    asked = delay(attempt, policy, random.Random(seed), 5.0)
    assert asked == 5.0 + wait


def test_jitter_spreads_over_the_whole_range():
    rng = random.Random(1)
    waits = [delay(3, RetryPolicy(base=1, cap=30), rng) for _ in range(2000)]
    assert min(waits) < 0.05
    assert max(waits) > 3.95
    assert 1.9 < sum(waits) / len(waits) < 2.1


def test_a_long_retry_after_is_capped():
    policy = RetryPolicy(base=1, max_retry_after=10)
    assert 10 <= delay(1, policy, random.Random(1), 1e9) <= 11


def test_no_delay_when_there_is_no_next_time():
    rng = random.Random(1)
    assert next_delay(status(500), 1, NO_RETRY, rng) is None
    assert next_delay(status(400), 1, RetryPolicy(), rng) is None
    assert next_delay(status(500), 2, RetryPolicy(max_retries=2), rng) is not None
    assert next_delay(status(500), 3, RetryPolicy(max_retries=2), rng) is None


class Calls:
    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.times = []

    async def __call__(self):
        self.times.append(trio.current_time())
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_resend(autojump_clock):
    calls = Calls(status(429, retry_after="10"), ModelTimeoutError("m", ""), "answer")
    assert await resend(calls, RetryPolicy(max_retries=2, base=1), random.Random(3)) == "answer"
    first, second = calls.times[1] - calls.times[0], calls.times[2] - calls.times[1]
    assert 10 <= first <= 11
    assert 0 <= second <= 2


async def test_resend_gives_up(autojump_clock):
    last = status(503)
    calls = Calls(status(500), status(500), last)
    with pytest.raises(ModelHTTPError) as caught:
        await resend(calls, RetryPolicy(max_retries=2), random.Random(3))
    assert caught.value is last
    assert caught.value.__notes__ == ["after 3 tries"]


@pytest.mark.parametrize("error", [status(400), UserError("x"), ValueError()])
async def test_resend_leaves_other_errors_alone(error):
    calls = Calls(error, "never")
    with pytest.raises(type(error)) as caught:
        await resend(calls, RetryPolicy(), random.Random(3))
    assert caught.value is error
    assert not hasattr(error, "__notes__")


async def test_resend_can_be_cancelled_while_it_waits(autojump_clock):
    calls = Calls(*[status(500, retry_after="100")] * 9)
    with trio.move_on_after(150):
        await resend(calls, RetryPolicy(max_retries=8, base=0.1), random.Random(3))
    assert len(calls.times) == 2


class Stream:
    def __init__(self, outcome, log):
        self.outcome = outcome
        self.log = log

    async def __aenter__(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def __aexit__(self, kind, error, trace):
        self.log.append(kind)


async def test_resend_stream(autojump_clock):
    log = []
    outcomes = [status(500), status(429), "stream", "another"]
    policy = RetryPolicy(max_retries=2)
    async with resend_stream(lambda: Stream(outcomes.pop(0), log), policy, random.Random(1)) as stream:
        assert stream == "stream"
    assert log == [None]
    with pytest.raises(ModelTimeoutError):
        async with resend_stream(lambda: Stream(outcomes.pop(0), log), policy, random.Random(1)):
            raise ModelTimeoutError("m", "inside the block: not sent again")
    assert log == [None, ModelTimeoutError]
    failures = [status(500)] * 9
    with pytest.raises(ModelHTTPError) as caught:
        async with resend_stream(lambda: Stream(failures.pop(0), log), policy, random.Random(1)):
            pass
    assert caught.value.__notes__ == ["after 3 tries"]
    assert len(failures) == 6
