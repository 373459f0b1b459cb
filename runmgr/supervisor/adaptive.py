"""How many requests to have in flight, found from the answers. Pure: the caller brings the time.

* *Up:* first one more each millisecond, to what it begins with; then one more for each answer, doubling within a round trip, until the
  first refusal (slow start, RFC 5681). After that by
  trials: a step more for two round trips; where that brings refusals it is taken back, and the next trial comes later (up to
  `LONGEST_PAUSE`); where not, the next one comes at once and is twice as large. So a limit is neither forgotten nor hammered.
* *Down, for refusals:* what is still in flight when a refusal arrives is what the provider serves, and that is the new limit:
  exact, without the loss of a multiplicative decrease. Where a whole window goes badly (503 and timeouts, which do not say
  what is served, or a limit that has fallen) the decrease is multiplicative: AIMD (D.-M. Chiu, R. Jain, "Analysis of the Increase
  and Decrease Algorithms for Congestion Avoidance in Computer Networks", Computer Networks and ISDN Systems 17, 1989).
* *Down, by a gradient:* where the mean latency of a window is well above the lowest seen, and the throughput is no more than
  it was with fewer in flight, the rest only queues at the provider, and the limit shrinks by the ratio (TCP Vegas: L.
  Brakmo, L. Peterson, IEEE JSAC 13(8), 1995; Netflix concurrency-limits, ``VegasLimit`` and ``Gradient2Limit``, Apache-2.0,
  github.com/Netflix/concurrency-limits). Latency that grows *with* throughput is a model that batches, and is left alone.
* *Noise:* a faulty provider pushes back whatever is in flight, and shrinking would only make it slow. The share that is pushed
  back while nothing is being tried is learned, and only more than that counts. Where a lower limit does not help (for two windows the share
  stays what it was), it was noise all along: it is learned, and the limit is tried where it was. Timeouts are never noise.
"""

from __future__ import annotations

import math

__all__ = ("LONGEST_PAUSE", "Adaptive", "first_limit")

INITIAL = 20
"""In flight to begin with, as in Netflix' ``Gradient2Limit``."""
MOST_INITIAL = 100
"""In flight to begin with, where more runs are allowed at once."""
LONGEST_PAUSE = 5.0
"""Seconds between trials where they fail, or twenty round trips where that is longer."""
PACE = 0.001
"""Seconds between requests as it begins: most answers take many times as long, and most refusals come within a few."""
_FIRST_PAUSE = 1.0
"""Seconds until a trial where no answer has come yet."""
_SMOOTHING = 0.1
_NOISE_SMOOTHING = 0.2
_TOLERANCE = 1.5
"""A window's latency may be this many times the lowest one: answers differ in length (``Gradient2Limit``'s default too)."""
_DRIFT = 1.005
"""The lowest latency is forgotten by this factor a window, so that longer prompts are not for ever taken for a queue."""
_BADLY = 0.2
"""Share above the usual noise at which a window goes badly."""
_LEAST_SAMPLES = 10
_FEW = 2
"""Refusals of a window, below which a lower limit has helped."""
_HELPED = 0.75
"""A lower limit has not helped where the share of what is pushed back is at least this part of what it was."""
_MOST_NOISE = 0.5
"""A share above that is never noise."""
_UNHELPED = 2
"""Windows without help after which it is noise."""
_SHORTEST = 0.001
"""Seconds of a window at least: a shorter one says more of this process than of the provider."""


def first_limit(max_running: int) -> int:
    """In flight to begin with: half of those who may want to be, so that a batch that nothing limits loses half a round trip (of
    doubling from `INITIAL` with 200 at once it were two and a half); and no more than `MOST_INITIAL`, which a provider that serves few
    refuses before all are sent (`Adaptive.paced`).
    """
    return min(max(INITIAL, max_running // 2), MOST_INITIAL)


class Adaptive:
    """A limit on requests in flight.

    Args:
        ceiling: never more; None: as many as work.
        initial: to begin with.
        aim: where `paced` leads from there, before the first answer.
    """

    __slots__ = (
        "_aim",
        "_bad",
        "_before",
        "_count",
        "_floor",
        "_floor_latency",
        "_full",
        "_least_share",
        "_length",
        "_limit",
        "_mark_limit",
        "_mark_rate",
        "_next_trial",
        "_noise",
        "_others",
        "_paced_at",
        "_pause",
        "_served",
        "_since",
        "_slow_start",
        "_step",
        "_sum",
        "_suspect_limit",
        "_suspect_share",
        "_timed_out",
        "_unhelped",
        "_window_at",
        "ceiling",
        "latency",
        "limit",
    )

    def __init__(self, ceiling: int | None = None, initial: int = INITIAL, aim: int = 0) -> None:
        self.ceiling = ceiling
        self.limit = 1
        """Requests that may be in flight; at least 1."""
        self._limit = 1.0
        self._set(initial)
        self.latency: float | None = None
        """Smoothed seconds to an answer: the round trip."""
        self._slow_start = True
        self._aim = aim
        self._paced_at: float | None = None
        self._before: float | None = None  # the limit before the trial that is going on
        self._step = 1.0
        self._pause = 0.0
        self._next_trial = 0.0
        self._noise = 0.0
        self._since = -math.inf  # what was sent earlier is of an earlier limit and says nothing of this one
        # the present window
        self._window_at: float | None = None
        self._length = 0.0
        self._count = 0
        self._served = 0
        self._sum = 0.0
        self._bad = 0
        self._others: int | None = None
        self._full = False
        self._timed_out = False
        self._floor = 1.0  # not below this in one burst
        # whether the last decreases helped
        self._suspect_limit: float | None = None
        self._suspect_share = 0.0
        self._least_share = 0.0
        self._unhelped = 0
        # earlier windows
        self._floor_latency: float | None = None
        self._mark_limit = 0.0
        self._mark_rate = 0.0

    def restore(self, limit: float) -> None:
        """What was pushed back lately was not about the number in flight: back to what it was."""
        self._set(limit)

    def paced(self, now: float) -> float | None:
        """As it begins: one more each `PACE` seconds, until something is refused. So a provider that serves few refuses a few, and not
        all that are sent at one moment.

        Returns:
            When there will be one more; None: not by this.
        """
        aim = self._aim
        if not aim or not self._slow_start:
            self._aim = 0
            return None
        at = self._paced_at
        if at is None:
            at = now
        elif now > at:
            more = min(int((now - at) / PACE + 1e-6), INITIAL)
            self._set(min(self._limit + more, max(aim, self._limit)))
            at = now if more == INITIAL else at + more * PACE
        if self._limit >= aim or self.limit == self.ceiling:
            self._aim = 0
            return None
        self._paced_at = at
        return at + PACE

    # ---------------------------------------------------------------- what happens

    def succeeded(self, now: float, sent_at: float, *, full: bool) -> None:
        """An answer has come.

        Args:
            now: seconds.
            sent_at: when its request was sent.
            full: whether requests were kept waiting by the limit within the last round trips.
        """
        seconds = now - sent_at
        latency = self.latency
        self.latency = seconds if latency is None else latency + (seconds - latency) * _SMOOTHING
        if full:
            self._full = True
            if self._slow_start:
                self._set(self._limit + 1)
        if self._window_at is None:
            self._begin_window(now)
        else:
            self._served += 1
            if sent_at >= self._since:
                self._count += 1
                self._sum += seconds
            if now - self._window_at >= self._length:
                self._look(now)

    def pushed_back(self, now: float, sent_at: float, others: int | None) -> None:
        """A request was refused, or has timed out.

        Args:
            now: seconds.
            sent_at: when it was sent.
            others: requests that are in flight still: with a 429, what the provider serves. None where the failure took long
                enough that this says nothing.
        """
        if self._window_at is None:
            self._begin_window(now)
        if others is not None:
            self._others = others
        if self._slow_start:
            self._slow_start = False
            self._shrink(now, others)
        elif others is not None and sent_at < self._since:
            if others < self._limit and self._bad == 0 and self._since == self._window_at:
                # The same burst: only its last refusal tells what is served.
                self._set(max(self._floor, float(others)))
            return
        else:
            self._bad += 1
            self._timed_out = self._timed_out or now - sent_at > (self.latency or math.inf)
            usual = self._noise * max(
                self._count + self._bad, self._limit
            )  # refusals come sooner than answers
            if (
                self._before is not None
                and self._bad - usual >= (2 if self._timed_out else 3) * math.sqrt(usual) + 1
            ):
                self._take_back(now)
                return
        self._look(now)

    def _shrink(self, now: float, others: int | None) -> None:
        self._suspect(0.0)
        # Far fewer in flight than allowed were no reason to refuse anything.
        self._floor = max(1.0, self._limit / 2)
        self._set(min(self._limit, self._limit * 0.9 if others is None else max(self._floor, others)))
        self._since = math.nextafter(now, math.inf)  # what was sent in this moment too
        self._pause_trials(now)
        self._begin_window(self._since)

    def _take_back(self, now: float) -> None:
        """The trial has failed."""
        assert self._before is not None
        self._suspect_limit = None
        self._set(self._before)
        self._floor = max(1.0, self._limit / 2)
        self._before = None
        self._step = 1.0
        self._since = now
        self._pause_trials(now)
        self._begin_window(now)

    def _pause_trials(self, now: float) -> None:
        latency = self.latency
        if latency is None:  # what a round trip is cannot be said yet, and so not how many to wait
            self._next_trial = now + _FIRST_PAUSE
            return
        self._pause = min(max(2 * self._pause, 4 * latency), max(LONGEST_PAUSE, 20 * latency))
        self._next_trial = now + self._pause

    def _set(self, limit: float) -> None:
        ceiling = self.ceiling
        self._limit = limit = max(1.0, limit if ceiling is None else min(limit, float(ceiling)))
        self.limit = int(limit)

    # ---------------------------------------------------------------- windows

    def _begin_window(self, now: float) -> None:
        self._window_at = now
        # As latency is now: while it grows, windows must end.
        self._length = max(2 * (self.latency or 0.0), _SHORTEST)
        self._count = self._bad = self._served = 0
        self._sum = 0.0
        self._others = None
        self._full = self._timed_out = False

    def _look(self, now: float) -> None:
        """End the window where it is long enough to say something."""
        assert self._window_at is not None
        latency = self.latency
        elapsed = now - self._window_at
        if latency is None:  # refusals come before the first answers: a few of them are no window
            latency = math.inf
        if elapsed < self._length or (self._count + self._bad < _LEAST_SAMPLES and elapsed < 10 * latency):
            return
        count, bad, total, full, others = self._count, self._bad, self._sum, self._full, self._others
        served, timed_out = self._served, self._timed_out
        asked = count + bad
        self._begin_window(now)
        if not asked:
            return
        share = bad / asked
        seen = self._suspect_limit is not None and self._before is None and not timed_out
        if seen and self._did_not_help(now, bad, share):
            return
        if share > 2 * self._noise + _BADLY:
            self._suspect(share)
            half = self._floor = max(1.0, self._limit / 2)
            self._set(max(half, min(self._limit, others) if others is not None else self._limit * 0.7))
            self._before = None
            self._slow_start = False
            self._since = now
            self._pause_trials(now)
            return
        if self._before is None:
            self._noise += (share - self._noise) * (_NOISE_SMOOTHING if self._noise or not bad else 1.0)
        else:  # the trial has not failed
            self._before = None
            self._step = min(self._step * 2, max(1.0, self._limit / 2))
            self._pause = 0.0
            self._next_trial = now
        if not full:
            return
        if count >= _LEAST_SAMPLES and elapsed > 0 and self._queues(now, total / count, served / elapsed):
            return
        if not self._slow_start and now >= self._next_trial:
            self._try(now, self._limit + self._step)

    def _suspect(self, share: float) -> None:
        """The limit is lowered: see whether that helps."""
        if self._suspect_limit is None:
            self._suspect_limit, self._unhelped, self._least_share = self._limit, 0, 1.0
        self._suspect_share = share

    def _did_not_help(self, now: float, bad: int, share: float) -> bool:
        """Whether as many are refused as before the limit was lowered, so that it is about something else: then it is tried where it was."""
        before = self._suspect_limit
        assert before is not None
        if bad < _FEW or share > _MOST_NOISE:
            self._suspect_limit = None
            return False
        self._least_share = min(self._least_share, share)
        self._unhelped = self._unhelped + 1 if share >= _HELPED * self._suspect_share else 0
        self._suspect_share = share
        if self._unhelped < _UNHELPED:
            return False
        self._noise = max(self._noise, self._least_share)
        self._step = max(1.0, before / 2)
        self._try(now, max(before, self._limit))
        return True

    def _try(self, now: float, limit: float) -> None:
        """Have so many in flight, and take it back if that brings refusals."""
        self._suspect_limit = None
        self._before = self._limit
        self._set(limit)
        self._since = now

    def _queues(self, now: float, mean: float, rate: float) -> bool:
        """Whether more in flight only wait longer, and so there are fewer from now on."""
        floor = self._floor_latency
        self._floor_latency = floor = mean if floor is None else min(floor * _DRIFT, mean)
        limit = self._limit
        if limit < self._mark_limit * 1.2:
            if limit <= self._mark_limit:
                self._mark_limit, self._mark_rate = limit, rate
            return False
        if not self._mark_limit or mean <= _TOLERANCE * floor or rate >= self._mark_rate * 1.1:
            self._mark_limit, self._mark_rate = limit, rate
            return False
        self._set(limit * max(0.5, _TOLERANCE * floor / mean))
        self._slow_start = False
        self._step = 1.0
        self._since = now
        self._pause_trials(now)
        return True
