"""When to stop asking a model whose provider is dead, and when to try again.

`Breaker` decides, and is pure: the caller brings the time. It *opens* when of the last requests, at least ``sample`` of them, more
than ``share`` failed; a provider that answers one request in five is asked on. While it is open nothing is sent. After a
cool-down one request goes as a probe: if it is answered, the breaker closes; if it fails, the next cool-down is twice as long.
The form is that of M. Nygard, "Release It!" (2007), chapter 5. `BreakerGate` adds the waiting: while the breaker is open, requests
wait at it, holding nothing, and a probe that fails counts as a try of each of them.

What counts as a failure: no connection, no answer in time, an answer cut short, 5xx. A 429 says nothing of this kind, and whatever
else was answered shows that the provider lives.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from runmgr.exceptions import ModelConnectionError
from runmgr.models.retry import RetryClass, classify

if TYPE_CHECKING:
    from runmgr.concurrency import Timers

__all__ = ("BREAKER", "Breaker", "BreakerGate", "BreakerPolicy", "verdict")


@attrs.frozen(kw_only=True)
class BreakerPolicy:
    """When a model is taken for dead.

    Args:
        share: of the last requests, above which it opens; between 0 and 1.
        sample: requests that must have been seen.
        cooldown: seconds until the first probe.
        max_cooldown: seconds; no cool-down gets longer.
    """

    share: float = attrs.field(
        default=0.8, validator=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(1))
    )
    sample: int = attrs.field(default=50, validator=attrs.validators.ge(1))
    cooldown: float = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    max_cooldown: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))


BREAKER = BreakerPolicy()
"""What holds where nothing is said."""


def verdict(error: BaseException | None) -> bool | None:
    """What a request's end says of its provider: True, it lives; False, it may be dead; None, nothing."""
    if error is None:
        return True
    if not isinstance(error, Exception):
        return None
    kind = classify(error)
    if kind is RetryClass.RATE_LIMIT:
        return None
    return kind is None or kind is RetryClass.CONFLICT


class Breaker:
    """The state of one model's breaker."""

    __slots__ = (
        "_cooldown",
        "_failed",
        "_policy",
        "_seen",
        "is_open",
        "probing",
        "tripped",
        "troubled",
        "until",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._seen = 0
        self._failed = 0
        self._cooldown = policy.cooldown
        self.is_open = False
        self.troubled = False
        """Whether anything failed lately: only then does a success have to be told."""
        self.probing = False
        """While it is open: a probe is under way."""
        self.until = math.inf
        """While it is open: when the next probe may go."""
        self.tripped = 0
        """How often it opened."""

    def succeeded(self) -> None:
        """A request was answered: an open breaker closes."""
        if self.is_open:
            self._reset()
            self.is_open = self.troubled = False
        else:
            self._count(0)

    def failed(self, now: float) -> None:
        """A request failed as those of a dead provider do."""
        if self.is_open:
            if self.probing:  # others are answers to what was sent before it opened
                self._open(now)
            return
        self._count(1)
        policy = self._policy
        if self._seen >= policy.sample and self._failed > policy.share * self._seen:
            self.tripped += 1
            self._reset()
            self._open(now)

    def probe(self, now: float) -> bool:
        """Whether a request may go as a probe; if so, it is the probe."""
        if self.probing or now < self.until:
            return False
        self.probing = True
        return True

    def give_up_probe(self) -> None:
        """The probe ended and says nothing: the next one may go at once."""
        self.probing = False

    def _open(self, now: float) -> None:
        self.is_open = self.troubled = True
        self.probing = False
        self.until = now + self._cooldown
        self._cooldown = min(2 * self._cooldown, self._policy.max_cooldown)

    def _count(self, failed: int) -> None:
        self._seen += 1
        self._failed += failed
        if self._seen >= 2 * self._policy.sample:  # the older half counts for less and less
            self._seen //= 2
            self._failed //= 2
        self.troubled = self._failed > 0

    def _reset(self) -> None:
        self._seen = self._failed = 0
        self.probing = False
        self.until = math.inf
        self._cooldown = self._policy.cooldown


class BreakerGate:
    """A breaker that requests wait at."""

    __slots__ = ("_news", "breaker", "last_error", "waiting")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.breaker = Breaker(policy)
        self.last_error = ""
        self.waiting = 0
        self._news: trio.Event | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests are to wait."""
        return self.breaker.is_open

    def rests(self, now: float) -> bool:
        """Whether nothing may be sent now, not even a probe."""
        breaker = self.breaker
        return breaker.is_open and (breaker.probing or now < breaker.until)

    def answered(self) -> None:
        """A request was answered."""
        self.breaker.succeeded()
        self._tell()

    def ended(self, error: BaseException, now: float, *, probe: bool) -> None:
        """A request ended without an answer, or with an error; whether it was the probe."""
        lives = verdict(error)
        breaker = self.breaker
        if lives is None:
            if probe and breaker.is_open and breaker.probing:  # another's end says nothing of the probe's
                breaker.give_up_probe()
        elif lives:
            if breaker.troubled:
                breaker.succeeded()
        else:
            self.last_error = f"{type(error).__name__}: {error}"
            breaker.failed(now)
        self._tell()

    def not_sent(self) -> None:
        """What was to be the probe was not sent."""
        if self.breaker.is_open:
            self.breaker.give_up_probe()
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    async def pass_(self, timers: Timers, attempt: int, most: int, model: str) -> int:
        """Wait until it closes, or until this request is the probe; gives the number of the try that comes.

        Cancelled: nothing is left behind.

        Args:
            timers: to sleep with.
            attempt: the number of the try that was to come.
            most: the last try's number; a probe that fails counts as a try of each request that waits.
            model: its name.

        Raises:
            ModelConnectionError: the tries are used up.
        """
        breaker = self.breaker
        self.waiting += 1
        try:
            while breaker.is_open and not breaker.probe(trio.current_time()):
                if breaker.probing:
                    before = breaker.until
                    if self._news is None:
                        self._news = trio.Event()
                    await self._news.wait()
                    if breaker.is_open and breaker.until != before:
                        attempt += 1
                        if attempt > most:
                            raise ModelConnectionError(
                                model,
                                f"not sent: {model} is taken for dead, and did not answer {most} probes; the last one ended "
                                f"with {self.last_error}",
                            )
                else:
                    await timers.sleep_until(breaker.until)
        finally:
            self.waiting -= 1
        return attempt
