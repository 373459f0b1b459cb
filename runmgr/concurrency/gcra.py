"""A rate limit as one number: the generic cell rate algorithm. Pure: the caller brings the time.

Source: ITU-T Recommendation I.371 (2004), annex A, and ATM Forum Traffic Management Specification 4.0 (af-tm-0056.000,
1996), section 4.4.2: "virtual scheduling" with the theoretical arrival time TAT, the increment I = 1/rate and the limit
L. The same as a leaky bucket as a meter, and as a token bucket that starts full, with no timer and no refill: ``tat`` is the time at
which the bucket would be full again. Costs other than 1 move TAT by ``cost * I``, and the whole of a cost must fit in the
burst: ``tat + cost * I - now <= burst * I``.
"""

from __future__ import annotations

import math

__all__ = ("Gcra",)

_SLACK = 1e-6


class Gcra:
    """Admits ``rate`` units a second on average and at most ``burst`` at once.

    Between any two times, at most ``burst + rate * (t1 - t0)`` units are taken (except by `force`). All times are
    seconds of one monotonic clock, the caller's.

    Args:
        rate: units a second, over 0; may be changed later.
        burst: units that may be taken at once after a long rest, over 0; may be changed later.

    Raises:
        ValueError: ``rate`` or ``burst`` is not over 0.
    """

    __slots__ = ("_burst", "_interval", "_rate", "_tat")

    def __init__(self, rate: float, burst: float) -> None:
        self._tat = -math.inf
        self._rate, self._burst, self._interval = _positive("rate", rate), _positive("burst", burst), 1 / rate

    @property
    def rate(self) -> float:
        """Units a second."""
        return self._rate

    @property
    def burst(self) -> float:
        """Units at once."""
        return self._burst

    def configure(self, now: float, *, rate: float | None = None, burst: float | None = None) -> None:
        """Change the rate or the burst; what is available now stays what it was, as far as the burst allows."""
        missing = self._burst - self.available(now)  # over `burst` after `force`: a debt stays a debt
        self._burst = self._burst if burst is None else _positive("burst", burst)
        self._rate = self._rate if rate is None else _positive("rate", rate)
        self._interval = 1 / self._rate
        self._tat = now + missing * self._interval

    def available(self, now: float) -> float:
        """How many units could be taken now; negative after `force` took more than there was."""
        return self._burst - max(0.0, self._tat - now) * self._rate

    def delay(self, now: float, cost: float = 1.0) -> float:
        """Seconds until ``cost`` units can be taken: 0.0 is now, ``inf`` never (more than the burst).

        A wait is a microsecond longer than it need be, so that rounding never makes whoever waited it wait again.
        """
        burst, tat = self._burst, self._tat
        if cost > burst:
            return math.inf
        wait = (tat - now if tat > now else 0.0) + (cost - burst) * self._interval
        return wait + _SLACK if wait > 0 else 0.0

    def take(self, now: float, cost: float = 1.0) -> float:
        """Take ``cost`` units if they are there.

        Args:
            now: seconds.
            cost: units, not negative.

        Returns:
            0.0 if they were taken. Otherwise nothing was, and this many seconds from now they could be, if nobody else
            takes any: ``inf`` if never.
        """
        wait = self.delay(now, cost)
        if wait == 0.0:
            self.force(now, cost)
        return wait

    def force(self, now: float, cost: float) -> None:
        """Take ``cost`` units whether they are there or not: for what turned out to cost more than was taken.

        Raises:
            ValueError: ``cost`` is negative.
        """
        if not cost >= 0:
            raise ValueError(f"cost must not be negative: {cost}; use give_back")
        tat = self._tat
        self._tat = (tat if tat > now else now) + cost * self._interval

    def give_back(self, now: float, cost: float) -> None:
        """Return ``cost`` units that were taken and not used. Never leaves more than the burst.

        Raises:
            ValueError: ``cost`` is negative.
        """
        if not cost >= 0:
            raise ValueError(f"cost must not be negative: {cost}; use force")
        # Whatever would bring TAT before now has been refilled by time already.
        self._tat = max(self._tat - cost * self._interval, now) if self._tat > now else self._tat

    def __repr__(self) -> str:
        return f"Gcra(rate={self._rate!r}, burst={self._burst!r})"


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number over 0, got {value!r}")
    return value
