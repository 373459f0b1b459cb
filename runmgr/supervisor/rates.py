"""The rate door of one model and key: requests and tokens a minute, requests in flight, and rests that the provider asks for.

A request passes at once where everything has room and nobody waits. Otherwise it stands in a line that is fair between
groups (`runmgr.concurrency.fair` names the source) and is let in with its turn and its permit in hand. Turns are GCRA's (see
`runmgr.concurrency.gcra`); one that is due but served late counts from when it was due, so a late timer costs no throughput.
Nothing is held while waiting: a request of a group with a rate of its own takes turns and permits of both at once (see `group_rates`).

Tokens are booked by an estimate when a request passes: its share of the bytes that bound its input, as learned from
earlier answers, and the mean output. What it really used takes its place when the answer is there.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import outcome
import trio

from runmgr.concurrency import FairQueue, Gcra
from runmgr.models.rate_headers import Quota
from runmgr.records.budgets import RateLimit

from .adaptive import INITIAL, Adaptive
from .refusals import LearnedQuota, Refusals

if TYPE_CHECKING:
    from .group_rates import GroupRate

__all__ = ("CATCH_UP", "Booking", "Place", "RateDoor", "Resting", "elsewhere")

elsewhere: ContextVar[bool] = ContextVar("runmgr_elsewhere", default=False)
"""Whether the request that is made can be sent to another model: then it is not kept waiting for a quota that rests."""


class Resting(Exception):
    """The quota rests: ask elsewhere."""


_FIRST_OUTPUT = 500.0
"""Output tokens that a request is booked with before any answer was seen, where ``max_tokens`` is not less."""
_FIRST_SHARE = 0.25
"""Tokens a byte of the bound, before any answer was seen."""
_SMOOTHING = 0.05
CATCH_UP = 0.5
"""Seconds: turns that were due longer ago than this are lost."""


class Booking:
    """The tokens that one request is booked with, by the bound of what it can use."""

    __slots__ = ("booked_inputs", "booked_outputs", "bound_inputs", "bound_outputs")

    def __init__(self, bound_inputs: int, bound_outputs: int) -> None:
        self.bound_inputs = bound_inputs
        self.bound_outputs = bound_outputs
        self.booked_inputs = 0.0
        self.booked_outputs = 0.0

    def again(self) -> Booking:
        """Of another request with the same bound."""
        return Booking(self.bound_inputs, self.bound_outputs)


class Place(NamedTuple):
    """Of one request in a line: what it is booked with, and the rate of its group, which it passes at the same moment."""

    booking: Booking | None
    group: str
    own: GroupRate | None = None
    own_booking: Booking | None = None


class RateDoor:
    """What `RateLimit` asks for, for one model.

    Args:
        limit: what was told.
        adapt: whether the in-flight limit is to be found from answers.
        services: where its timer runs.
        initial: in flight to begin with, while the limit is being found.
    """

    __slots__ = (
        "_buckets",
        "_clock",
        "_due",
        "_full_at",
        "_impatient",
        "_level",
        "_line",
        "_mean_output",
        "_quota",
        "_requests",
        "_room",
        "_room_until",
        "_scope",
        "_share",
        "_waits",
        "adaptive",
        "closed",
        "cool_until",
        "counts_tokens",
        "limit",
        "refusals",
        "services",
        "used",
    )

    def __init__(
        self,
        limit: RateLimit,
        *,
        adapt: bool,
        services: trio.Nursery | None = None,
        initial: int = INITIAL,
    ) -> None:
        self.adaptive = (
            Adaptive(limit.max_in_flight, min(initial, INITIAL), initial)
            if adapt and limit.adaptive
            else None
        )
        self.refusals = Refusals()
        self._quota = LearnedQuota()
        self.services = services
        self.used: int = 0
        """Permits out: requests in flight."""
        self._full_at = -math.inf  # when a request was last kept waiting by those in flight
        self._level = 0  # what it was at the first refusal
        self.cool_until = 0.0
        """Nobody is sent before: the provider asked for it."""
        self.closed = False
        """Nobody is sent at all: what may be sent is others' for now."""
        self._impatient: set[trio.lowlevel.Task] = set()  # of those in line, who can ask elsewhere
        self._tell(limit)
        self._mean_output: float | None = None
        self._share = _FIRST_SHARE
        self._room = math.inf  # requests that the provider's headers leave room for, until then
        self._room_until = 0.0
        self._line: FairQueue[trio.lowlevel.Task, Place] = FairQueue()
        self._waits = self._line.where
        self._clock = 0.0  # the moment up to which turns have been given out, while anybody waits
        self._due = math.inf
        self._scope: trio.CancelScope | None = None

    def _tell(self, limit: RateLimit) -> None:
        self.limit = limit
        # A burst of one: no window of the provider's, wherever it begins, sees more than its share.
        requests = limit.requests_per_minute
        self._requests = None if requests is None else Gcra(requests / 60, 1.0)
        self._buckets: tuple[tuple[Gcra, int, int], ...] = tuple(  # with what they count: inputs, outputs
            (Gcra(tokens / 60, max(1.0, tokens / 60)), of_inputs, of_outputs)
            for tokens, of_inputs, of_outputs in (
                (limit.tokens_per_minute, 1, 1),
                (limit.input_tokens_per_minute, 1, 0),
                (limit.output_tokens_per_minute, 0, 1),
            )
            if tokens is not None
        )
        self.counts_tokens = bool(self._buckets)

    def change(self, limit: RateLimit) -> None:
        """Another limit from now on: for who waits too, not for who has passed. Its pace begins anew."""
        self._tell(limit)
        if self.waiting:
            self._clock = trio.current_time()
            self._serve()

    def follow(self, limit: RateLimit | None) -> None:
        """Another part of a limit from now on, None: nothing. Whoever changes parts often gains nothing by it: what is owed stays
        owed, and a door that was closed opens with nothing saved up.
        """
        now = trio.current_time()
        if limit is None:
            self.closed = True
            return
        before = (self._requests, *(bucket for bucket, *_ in self._buckets))
        self._tell(limit)
        after = (self._requests, *(bucket for bucket, *_ in self._buckets))
        for old, new in zip_longest(before, after):
            if new is None:
                continue
            missing = new.burst if old is None or self.closed else old.burst - old.available(now)
            new.force(now, max(0.0, missing))
        if self.adaptive is not None:
            self.adaptive.ceiling = limit.max_in_flight
            if limit.max_in_flight is not None and self.adaptive.limit > limit.max_in_flight:
                self.adaptive.restore(limit.max_in_flight)
        self.closed = False
        if self.waiting:
            self._clock = now
            self._serve()

    @property
    def exceeded(self) -> bool:
        """Whether more is in flight than may be by now: what was sent before a limit fell."""
        most = 0 if self.closed else self.limit.max_in_flight
        return most is not None and self.used > most

    # ---------------------------------------------------------------- how many in flight

    @property
    def in_flight_limit(self) -> int | None:
        """Requests that may be in flight now; None: any number."""
        adaptive = self.adaptive
        limit = self.limit.max_in_flight if adaptive is None else adaptive.limit
        quota = self._quota.room(trio.current_time()) if self._quota.known else None
        if quota is not None and (limit is None or quota < limit):
            limit = quota
        if not self.refusals.withheld and not self._room_until:
            return limit
        if self.refusals.withheld:
            limit = (self._level if limit is None else limit) - self.refusals.withheld
        if self._room_until:
            if trio.current_time() >= self._room_until:
                self._room, self._room_until = math.inf, 0.0
            elif limit is None or limit > self._room:
                limit = int(self._room)
        return limit if limit is None or limit > 1 else 1

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    # ---------------------------------------------------------------- passing

    def pass_nowait(self, now: float, booking: Booking | None) -> bool:
        """Take a turn and a permit if both are there now and nobody waits."""
        if self._waits or self.closed:
            return False
        adaptive = self.adaptive
        plain = not (self._room_until or self.refusals.withheld or self._quota.known)
        limit = adaptive.limit if plain and adaptive is not None else self.in_flight_limit
        if limit is not None and self.used >= limit:
            self._full_at = now
            return False
        if self.cool_until > now:
            return False
        requests = self._requests
        if requests is not None and requests._tat > now:  # its burst is one: see `Gcra.delay`
            return False
        if booking is not None:
            self._estimate(booking)
            inputs, outputs = booking.booked_inputs, booking.booked_outputs
            for bucket, of_inputs, of_outputs in self._buckets:
                # As `Gcra.delay` of no more than the burst, uncalled.
                tokens, burst, tat = inputs * of_inputs + outputs * of_outputs, bucket._burst, bucket._tat
                if tokens < burst:
                    if (tat - now if tat > now else 0.0) + (tokens - burst) * bucket._interval > 0:
                        return False
                elif tat > now:
                    return False
            for bucket, of_inputs, of_outputs in self._buckets:
                tat = bucket._tat
                tokens = inputs * of_inputs + outputs * of_outputs
                bucket._tat = (tat if tat > now else now) + tokens * bucket._interval
        if requests is not None:
            requests._tat = now + requests._interval
        self.used += 1
        return True

    async def pass_(self, place: Place) -> None:
        """Wait for a turn and a permit, which `leave` gives back, and for those of the group's own rate. Cancelled: nothing is taken.

        Raises:
            Resting: the quota rests, and the request can be sent elsewhere.
        """
        task = trio.lowlevel.current_task()
        if not self._line:
            self._clock = trio.current_time()
        self._line.push(task, place, group=place.group)
        self._serve()

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        if task in self._line:
            if not elsewhere.get():
                await trio.lowlevel.wait_task_rescheduled(abort)
                return
            self._impatient.add(task)
            try:
                await trio.lowlevel.wait_task_rescheduled(abort)
            finally:
                self._impatient.discard(task)
        else:  # it fitted after all; the reschedule that `_serve` would have done must not come before the wait
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _remove(self, task: trio.lowlevel.Task) -> None:
        place = self._line.remove(task)
        if place.own is not None:
            place.own.one_left(self)

    def pass_over(self, group: str, *, over: bool) -> None:
        """Let others go before a group's requests, or do so no more."""
        if over:
            self._line.hold(group)
        else:
            self._line.unhold(group)

    def call(self, group: str) -> None:
        """A group's own rate has room: let in those of its requests whose turn has come."""
        self._line.unhold(group)
        self._serve()

    def in_line(self, group: str) -> int:
        """How many of a group wait."""
        return self._line.count(group)

    def rests(self, now: float) -> bool:
        """Whether nobody is sent, however few are in flight."""
        return self.closed or self.cool_until > now

    def leave(self) -> None:
        """Give the permit back."""
        self.used -= 1
        if self._waits:
            self._serve()

    def _delay(self, now: float, booking: Booking | None) -> float:
        """Seconds from ``now`` until a request's turn."""
        wait = self.cool_until - now
        if wait < 0:
            wait = 0.0
        requests = self._requests
        if requests is not None:
            until = requests.delay(now)
            wait = max(wait, until)
        if booking is not None:
            self._estimate(booking)
            for bucket, of_inputs, of_outputs in self._buckets:
                tokens = booking.booked_inputs * of_inputs + booking.booked_outputs * of_outputs
                burst = bucket._burst
                until = bucket.delay(now, tokens if tokens < burst else burst)
                wait = max(wait, until)
        return wait

    def _take(self, now: float, booking: Booking | None) -> None:
        if self._requests is not None:
            self._requests.force(now, 1.0)
        if booking is not None:
            for bucket, of_inputs, of_outputs in self._buckets:
                bucket.force(now, booking.booked_inputs * of_inputs + booking.booked_outputs * of_outputs)

    def _estimate(self, booking: Booking) -> None:
        mean = self._mean_output
        booking.booked_inputs = booking.bound_inputs * self._share
        booking.booked_outputs = min(booking.bound_outputs, _FIRST_OUTPUT) if mean is None else mean

    # ---------------------------------------------------------------- the line

    def _serve(self) -> None:
        """Let in whoever's turn has come, and set the timer to the next one's."""
        line = self._line
        now = trio.current_time()
        if self.closed:
            return
        self._clock = max(self._clock, now - CATCH_UP)
        owns: dict[GroupRate, None] | None = None
        while line:
            first = line.peek()
            if first is None:  # all wait for their groups' rates; turns that pass meanwhile are lost
                self._clock = now
                break
            task, place = first
            due = self._due_at(now, place.booking)
            if due is None:
                break
            own = place.own
            if own is not None:
                if not own.take_with(self, now, place.own_booking):
                    self.pass_over(place.group, over=True)
                    continue
                owns = owns or {}
                owns[own] = None
            line.pop()
            self._let_in(due, place.booking)
            if task is not trio.lowlevel.current_task():
                trio.lowlevel.reschedule(task)
        for own in owns or ():
            own.went(self)

    def _due_at(self, now: float, booking: Booking | None) -> float | None:
        """Since when a request may pass, if it may now; else the timer is set, or a permit has to come back first."""
        while True:
            limit = self.in_flight_limit
            if limit is None or self.used < limit:
                break
            due = None if self.adaptive is None or self.services is None else self.adaptive.paced(now)
            if due is not None:
                self._wake_at(due)
            if limit != self.in_flight_limit:
                continue
            self._full_at = now
            self._clock = now  # turns that pass meanwhile are lost, else they would come in a burst
            if self._room_until > now:
                self._wake_at(self._room_until)
            return None
        clock = self._clock
        due = clock + self._delay(clock, booking)
        if due > now:
            self._wake_at(due)
            return None
        return due

    def _let_in(self, due: float, booking: Booking | None) -> None:
        self._clock = due
        self._take(due, booking)
        self.used += 1

    def _wake_at(self, due: float) -> None:
        if self._scope is None:
            if self.services is None:
                raise RuntimeError("a rate door needs a nursery to wait in")
            self._due = due
            self._scope = trio.CancelScope(deadline=due)
            self.services.start_soon(self._keep_time, name="runmgr rate")
        elif due < self._due:
            self._due = self._scope.deadline = due

    async def _keep_time(self) -> None:
        """The timer: one task for the line, whoever stands in it."""
        while True:
            assert self._scope is not None
            with self._scope:
                await trio.sleep_forever()
            self._due = math.inf
            self._scope = trio.CancelScope()
            self._serve()

    # ---------------------------------------------------------------- what answers teach

    def give_back(self, booking: Booking | None) -> None:
        """A turn that was taken is not used after all; the permit is given back by `leave`."""
        now = trio.current_time()
        if self._requests is not None:
            self._requests.give_back(now, 1.0)
        if booking is not None:
            self.forget(booking)

    def forget(self, booking: Booking) -> None:
        """The request used no tokens: it was refused, or never sent."""
        now = trio.current_time()
        for bucket, of_inputs, of_outputs in self._buckets:
            bucket.give_back(now, booking.booked_inputs * of_inputs + booking.booked_outputs * of_outputs)
        booking.booked_inputs = booking.booked_outputs = 0.0

    def answered(
        self, now: float, sent_at: float, booking: Booking | None, inputs: int, outputs: int
    ) -> None:
        """An answer has come: it teaches, its tokens take the place of what was booked, and its permit is given back.

        Args:
            now: seconds.
            sent_at: when its request was sent.
            booking: what was booked, where tokens are counted.
            inputs: input tokens that it used.
            outputs: output tokens likewise.
        """
        adaptive = self.adaptive
        if adaptive is not None:
            latency = adaptive.latency
            seconds = now - sent_at if latency is None else latency
            adaptive.succeeded(now, sent_at, full=now - self._full_at <= 2 * seconds)
        self._quota.answered(now)
        if self.refusals.withheld:
            self.refusals.succeeded(sent_at)
        if booking is not None:
            self.settle(now, booking, inputs, outputs)
        self.used -= 1
        if self._waits:
            self._serve()

    def settle(self, now: float, booking: Booking, inputs: int, outputs: int) -> None:
        """An answer used so many tokens: they take the place of what was booked."""
        share = inputs / (booking.bound_inputs or 1)
        mean = self._mean_output
        if mean is None:
            self._share, self._mean_output = min(share, 1.0), float(outputs)
        else:
            self._share += (share - self._share) * _SMOOTHING
            self._mean_output = mean + (outputs - mean) * _SMOOTHING
        more_inputs, more_outputs = inputs - booking.booked_inputs, outputs - booking.booked_outputs
        for bucket, of_inputs, of_outputs in self._buckets:
            more = more_inputs * of_inputs + more_outputs * of_outputs
            if more > 0:
                bucket.force(now, more)
            else:
                bucket.give_back(now, -more)

    def pushed_back(self, now: float, sent_at: float) -> None:
        """The provider is overloaded: 503, or a timeout."""
        if self.adaptive is not None:
            self.adaptive.pushed_back(now, sent_at, None)

    def refused(self, now: float, sent_at: float, *, told: float | None, quotas: list[Quota]) -> None:
        """A request was answered with 429."""
        gone = [quota for quota in quotas if quota.remaining <= 0]
        if told is None and gone:
            told = max((quota.reset for quota in gone if quota.reset is not None), default=None)
        adaptive = self.adaptive
        if not self.refusals.withheld:
            self._level = self.used if adaptive is None else adaptive.limit
        rest = self.refusals.refused(
            now,
            sent_at,
            None if adaptive is None else adaptive.latency,
            self.used - 1,
            told=told,
            spent=bool(gone),
        )
        if rest is not None:
            self._quota.spent(now, rest)
            self.cool_down(now + rest)
            if adaptive is not None:  # it was not about the number in flight
                adaptive.restore(self._level)
        elif adaptive is not None:
            adaptive.pushed_back(now, sent_at, self.used - 1)

    def heard(self, now: float, quotas: list[Quota]) -> None:
        """An answer's headers told what is left: never have more in flight than that, and wait where it is nothing."""
        room, until = math.inf, 0.0
        for quota in quotas:
            if quota.reset is None:
                continue
            each = 1.0
            if quota.kind != "requests":
                each = max(1.0, self._mean_output or 1.0)
            left = quota.remaining / each
            if quota.remaining <= 0:
                self.cool_down(now + quota.reset)
            elif left < room:
                room, until = left, now + quota.reset
        self._room, self._room_until = room, until

    def cool_down(self, until: float) -> None:
        """Nobody is sent before ``until``; those who can ask elsewhere are sent away."""
        self.cool_until = max(self.cool_until, until)
        for task in [task for task in self._impatient if task in self._line]:
            self._remove(task)
            trio.lowlevel.reschedule(task, outcome.Error(Resting()))
