"""When a failed request may be sent again, and after how long.

What is decided (``classify``, ``retry_after``, ``delay``) is pure; ``resend`` is the loop for those that have no policy of
their own. A supervisor uses the parts, so that it holds no permit and no connection while it waits.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TypeVar

import attrs
import trio

from runmgr.concurrency import full_jitter
from runmgr.exceptions import (
    FallbackExceptionGroup,
    MalformedResponseError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
)

__all__ = (
    "NO_RETRY",
    "RetryClass",
    "RetryPolicy",
    "classify",
    "delay",
    "http_date",
    "next_delay",
    "resend",
    "resend_stream",
    "retry_after",
)

T = TypeVar("T")


class RetryClass(StrEnum):
    """Why sending the request again may help."""

    CONNECTION = "connection"
    """No connection, or one that broke."""
    TIMEOUT = "timeout"
    """Too slow, or the server said so (408)."""
    CONFLICT = "conflict"
    """409: something else held what the request needs."""
    RATE_LIMIT = "rate_limit"
    """429: too many requests or tokens."""
    SERVER = "server"
    """5xx: the server's own fault."""
    MALFORMED = "malformed"
    """The answer was cut short or was not what it should be."""


@attrs.frozen
class RetryPolicy:
    """How often and how patiently to send again.

    Args:
        max_retries: resends after the first try.
        base: seconds; the upper end of the first wait.
        cap: seconds; no wait of our own choosing is longer.
        max_retry_after: seconds; a server that asks for a longer wait is asked again after this long.
        share: resends of one model may be this part of its first sends; those beyond wait for their turn, one a second. Kept by
            a supervisor, which sees all requests; 429s are not counted, as the rates hold them back. None: no limit.
    """

    max_retries: int = 2
    base: float = 0.5
    cap: float = 30.0
    max_retry_after: float = 120.0
    share: float | None = 0.5


NO_RETRY = RetryPolicy(max_retries=0)
"""One try."""

_BY_STATUS = {408: RetryClass.TIMEOUT, 409: RetryClass.CONFLICT, 429: RetryClass.RATE_LIMIT}


def classify(error: BaseException) -> RetryClass | None:
    """Why sending again may help, or None where it cannot: what is not a ``ModelAPIError``, and statuses that blame the
    request (4xx other than 408, 409 and 429; a 429 that says that the account's quota is spent).

    A server that sends ``x-should-retry: true`` or ``false``, as OpenAI and Anthropic do, is believed. Where all models of a
    fallback failed, one that may do better next time is enough.
    """
    if isinstance(error, FallbackExceptionGroup):
        return next((found for each in error.exceptions if (found := classify(each)) is not None), None)
    if isinstance(error, ModelHTTPError):
        if not error.retriable:
            return None
        return _BY_STATUS.get(error.status_code, RetryClass.SERVER)
    if isinstance(error, ModelConnectionError):
        return RetryClass.CONNECTION
    if isinstance(error, ModelTimeoutError):
        return RetryClass.TIMEOUT
    if isinstance(error, MalformedResponseError):
        return RetryClass.MALFORMED
    return None


def retry_after(error: BaseException, *, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that the server asks to wait (RFC 9110 10.2.3: seconds or an HTTP date), or None where it asks for none or for
    nonsense. ``retry-after-ms``, which OpenAI and Azure send, is finer and goes first. Never negative.

    Args:
        error: what was raised.
        now: the wall clock, in seconds since 1970, for dates; only differences from the server's own ``date`` header count
            where it sent one.
    """
    if isinstance(error, FallbackExceptionGroup):
        # The first model to be ready again is asked again: those that ask for no wait are ready at once.
        waits = [retry_after(each, now=now) or 0.0 for each in error.exceptions if classify(each) is not None]
        return min(waits, default=0.0) or None
    if not isinstance(error, ModelHTTPError):
        return None
    headers = error.headers
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    text = headers.get("retry-after")
    due = None if text is None else http_date(text)
    if due is None:
        return None
    return max(0.0, due - (http_date(headers.get("date", "")) or now()))


def http_date(text: str) -> float | None:
    """Seconds since 1970 of a date as HTTP writes it; None where it is none."""
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:  # "-0000", and the obsolete forms: all HTTP dates are UTC
        when = when.replace(tzinfo=UTC)
    return when.timestamp()


def delay(attempt: int, policy: RetryPolicy, rng: random.Random, retry_after: float | None = None) -> float:
    """Seconds to wait before resend number ``attempt`` (1 is the first).

    Full jitter: uniform between 0 and ``min(cap, base * 2**(attempt - 1))``. Where the server asked for a wait, that long (up
    to ``max_retry_after``) and the jitter on top, so that those told the same do not come back together.
    """
    jitter = full_jitter(attempt - 1, base=policy.base, cap=policy.cap, rng=rng)
    return jitter if retry_after is None else min(retry_after, policy.max_retry_after) + jitter


def next_delay(error: BaseException, attempt: int, policy: RetryPolicy, rng: random.Random) -> float | None:
    """Seconds until resend number ``attempt`` after ``error``, or None where there is to be none."""
    if attempt > policy.max_retries or classify(error) is None:
        return None
    return delay(attempt, policy, rng, retry_after(error))


def _delay_or_note(
    error: ModelAPIError, attempt: int, policy: RetryPolicy, rng: random.Random
) -> float | None:
    wait = next_delay(error, attempt, policy, rng)
    if wait is None and attempt > 1:
        error.add_note(f"after {attempt} tries")
    return wait


async def resend(call: Callable[[], Awaitable[T]], policy: RetryPolicy, rng: random.Random) -> T:
    """Await ``call()``, again after each failure that sending again may mend, as often as the policy says.

    Holds nothing while it waits. Cancelling ends the try or the wait that is under way.

    Raises:
        ModelAPIError: the last failure, noting how many tries there were.
    """
    attempt = 0
    while True:
        try:
            return await call()
        except ModelAPIError as error:
            attempt += 1
            wait = _delay_or_note(error, attempt, policy, rng)
            if wait is None:
                raise
        await trio.sleep(wait)


@asynccontextmanager
async def resend_stream(
    open_stream: Callable[[], AbstractAsyncContextManager[T]], policy: RetryPolicy, rng: random.Random
) -> AsyncGenerator[T]:
    """Enter ``open_stream()``, again after each failure to enter that sending again may mend. What fails within the block is not
    mended: the reader has seen a part of it.
    """
    attempt = 0
    while True:
        stream = open_stream()
        try:
            entered = await stream.__aenter__()
        except ModelAPIError as error:
            attempt += 1
            wait = _delay_or_note(error, attempt, policy, rng)
            if wait is None:
                raise
        else:
            break
        await trio.sleep(wait)
    try:
        yield entered
    except BaseException:
        if not await stream.__aexit__(*sys.exc_info()):
            raise
    else:
        await stream.__aexit__(None, None, None)
