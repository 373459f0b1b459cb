"""How many requests to have in flight, found from the answers. Pure: the caller brings the time.

Grows while answers come, shrinks when the provider pushes back:

* *Additive increase, multiplicative decrease* (D.-M. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms for
  Congestion Avoidance in Computer Networks", Computer Networks and ISDN Systems 17, 1989), with TCP's slow start (RFC 5681:
  one more for each answer, doubling within a round trip) until the first push-back, and then the growth curve of CUBIC (RFC
  9438, section 4.1): quickly back to just under where it was pushed back, long there, then carefully on. At most one
  decrease a round trip, as requests of one round trip tell the same news.
* *A gradient* (TCP Vegas: L. Brakmo, L. Peterson, IEEE JSAC 13(8), 1995; Netflix concurrency-limits, ``VegasLimit`` and
  ``Gradient2Limit``, Apache-2.0, github.com/Netflix/concurrency-limits): where the mean latency of a window is well above the
  lowest seen, and the throughput is no more than it was with fewer in flight, the rest only queues at the provider, and
  the limit shrinks by the ratio. Latency that grows *with* throughput is a model that batches, and is left alone.

What pushes back is a 429, a 503 or a timeout of a request with *more* in flight than lately succeeded. With no more than that, the
number in flight cannot be the reason (a fault, or another limit), and shrinking would only make a faulty provider slow.
"""

from __future__ import annotations

import math

__all__ = ("Adaptive",)

INITIAL = 20
"""In flight to begin with, as in Netflix' ``Gradient2Limit``."""
DECREASE = 0.9
_CUBIC = 0.4
_SMOOTHING = 0.1
_TOLERANCE = 1.5
"""A window's latency may be this many times the lowest one: answers differ in length (``Gradient2Limit``'s default too)."""
_DRIFT = 1.005
"""The lowest latency is forgotten by this factor a window, so that longer prompts are not for ever taken for a queue."""
_LEAST_SAMPLES = 10


class Adaptive:
    """A limit on requests in flight.

    Args:
        ceiling: never more; None: as many as work.
        initial: to begin with.
    """

    __slots__ = (
        "_anchor",
        "_count",
        "_floor_latency",
        "_full",
        "_limit",
        "_mark_limit",
        "_mark_rate",
        "_peak",
        "_proven",
        "_proven_at",
        "_reduced_at",
        "_slow_start",
        "_sum",
        "_window_at",
        "ceiling",
        "latency",
    )

    def __init__(self, ceiling: int | None = None, initial: int = INITIAL) -> None:
        self.ceiling = ceiling
        self._limit = float(initial if ceiling is None else min(initial, ceiling))
        self.latency: float | None = None
        """Smoothed seconds to an answer: the round trip."""
        self._slow_start = True
        self._peak = self._limit  # where it was pushed back last: the plateau of the curve
        self._anchor: float | None = None  # when the curve began
        self._reduced_at = -math.inf
        self._proven = 0  # the most in flight with which a request of the last round trips succeeded
        self._proven_at = -math.inf
        # the present window
        self._window_at: float | None = None
        self._count = 0
        self._sum = 0.0
        self._full = False
        # earlier windows
        self._floor_latency: float | None = None
        self._mark_limit = 0.0
        self._mark_rate = 0.0

    @property
    def limit(self) -> int:
        """Requests that may be in flight; at least 1."""
        return max(1, int(self._limit))

    def succeeded(self, now: float, sent_at: float, in_flight: int) -> None:
        """An answer has come.

        Args:
            now: seconds.
            sent_at: when its request was sent.
            in_flight: requests in flight when it was sent, itself included.
        """
        seconds = now - sent_at
        latency = self.latency
        self.latency = latency = seconds if latency is None else latency + (seconds - latency) * _SMOOTHING
        if in_flight >= self._proven or now - self._proven_at > 3 * latency:
            self._proven, self._proven_at = in_flight, now
        full = in_flight >= self._limit - 1
        if full:
            self._full = True
            self._grow(now, latency)
        if self._window_at is None:
            self._window_at = now
            return
        self._count += 1
        self._sum += seconds
        if (
            self._count >= _LEAST_SAMPLES
            and self._count >= self._limit
            and now - self._window_at >= 2 * latency
        ):
            self._end_window(now)

    def pushed_back(self, now: float, sent_at: float, in_flight: int) -> bool:
        """A request was refused or timed out; arguments as of `succeeded`. Gives whether the limit went down by it."""
        if in_flight <= self._proven and now - self._proven_at <= 3 * (self.latency or 0.0):
            return False
        if sent_at < self._reduced_at:
            return False
        self._reduce(now, in_flight - 1, DECREASE)
        return True

    def _reduce(self, now: float, peak: float, factor: float) -> None:
        self._slow_start = False
        self._peak = max(1.0, min(peak, self._limit))
        self._limit = max(1.0, self._peak * factor)
        self._anchor = self._reduced_at = now
        self._proven = 0

    def _grow(self, now: float, latency: float) -> None:
        limit = self._limit
        if self._slow_start:
            limit += 1
        else:
            assert self._anchor is not None
            # Time in seconds, as in TCP, or in round trips where these are longer: nothing is learned within one.
            elapsed = (now - self._anchor) / max(1.0, latency)
            back = ((self._peak * (1 - DECREASE)) / _CUBIC) ** (1 / 3)
            target = _CUBIC * (elapsed - back) ** 3 + self._peak
            if target <= limit:
                return
            limit = min(target, limit + 1)  # for each answer at most one more: doubling within a round trip
        self._limit = limit if self.ceiling is None else min(limit, float(self.ceiling))

    def _end_window(self, now: float) -> None:
        assert self._window_at is not None
        mean = self._sum / self._count
        rate = self._count / (now - self._window_at) if now > self._window_at else math.inf
        full = self._full
        self._window_at, self._count, self._sum, self._full = now, 0, 0.0, False
        floor = self._floor_latency
        self._floor_latency = floor = mean if floor is None else min(floor * _DRIFT, mean)
        if not full:
            return
        limit = self._limit
        if limit < self._mark_limit * 1.2:
            if limit <= self._mark_limit:
                self._mark_limit, self._mark_rate = limit, rate
            return
        if self._mark_limit and mean > _TOLERANCE * floor and rate < self._mark_rate * 1.1:
            self._reduce(now, limit, max(0.5, _TOLERANCE * floor / mean))
            return
        self._mark_limit, self._mark_rate = limit, rate
