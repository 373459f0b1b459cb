"""What a 429 means: a spent quota, or only one request too many. Pure: the caller brings the time.

A quota is spent where the answer's own headers say so, or where within a round trip of the first refusal every request that was
sent since is refused too. Then the whole quota rests, for as long as the provider asks, else for 1, 2, 4, ... seconds,
and begins again with one request, which has to succeed before others follow. An isolated refusal delays only its own request.

Meanwhile, each refusal takes more permits out of circulation (1, 2, 3, ...) until a request sent since has succeeded, so that
finding out costs about the square root of the requests in flight, and not a storm.
"""

from __future__ import annotations

__all__ = ("LearnedQuota", "Refusals")

_FIRST_REST = 1.0
_LONGEST_REST = 60.0
_ALL = 1 << 30
_SHORTEST_QUOTA = 5.0
"""Seconds: who is asked to wait for less was not told of a quota."""


class LearnedQuota:
    """What a quota turned out to hold that no header tells of.

    It is spent, and rests; so many requests were answered before. In the next period, from the rest's end, no more requests are in flight
    than that number leaves: so its end is met by one or two refused requests and not by all that are in flight. Past it one more
    is allowed for each answer (it may be larger by now), and past half as many again it is forgotten. Pure.
    """

    __slots__ = ("_began", "_held", "_period", "_served", "known")

    def __init__(self) -> None:
        self._began: float | None = None  # the present period's first answer
        self._served = 0
        self._held: int | None = None
        self._period = 0.0
        self.known = False
        """Whether it was ever spent."""

    def answered(self, now: float) -> None:
        """A request was answered."""
        began = self._began
        if began is None:
            self._began = now
        elif self._held is not None:
            if now - began >= self._period:
                self._began, self._served = now, 0
            elif self._served > 1.5 * self._held:
                self._held, self.known = None, False
        self._served += 1

    def spent(self, now: float, rest: float) -> None:
        """It rests for so many seconds from now."""
        if self._served and self._began is not None and rest >= _SHORTEST_QUOTA:
            self._held, self._period, self.known = self._served, now + rest - self._began, True
        if rest >= _SHORTEST_QUOTA:
            self._began, self._served = None, 0

    def room(self, now: float) -> int | None:
        """Requests that may be in flight; None: nothing is known."""
        held = self._held
        if held is None or self._began is None or now - self._began >= self._period:
            return held
        left = held - self._served
        return left if left > 0 else 1 - left


class Refusals:
    """The refusals of one quota."""

    __slots__ = ("_count", "_rest", "_since", "withheld")

    def __init__(self) -> None:
        self._since: float | None = None
        self._count = 0
        self._rest = _FIRST_REST
        self.withheld = 0
        """Permits that are not to be given out for now; more than there are: all but one."""

    def succeeded(self, sent_at: float) -> bool:
        """A request has succeeded. Gives whether permits that were withheld are free again."""
        if not self.withheld:
            return False
        if self._since is not None and sent_at < self._since:
            return False  # it was sent before the first refusal, and tells nothing
        self._since, self._count, self.withheld = None, 0, 0
        self._rest = _FIRST_REST
        return True

    def refused(
        self,
        now: float,
        sent_at: float,
        latency: float | None,
        others: int,
        *,
        told: float | None,
        spent: bool,
    ) -> float | None:
        """A request was answered with 429.

        Args:
            now: seconds.
            sent_at: when it was sent.
            latency: seconds that an answer takes; None where none has come yet.
            others: requests that are in flight still.
            told: seconds that the provider asks to wait, if it does.
            spent: whether its headers say that nothing is left.

        Returns:
            Seconds for which the whole quota is to rest; None where the refusal is an isolated one.
        """
        probing = self.withheld >= _ALL
        if self._since is None:
            self._since = now
        self._count += 1
        self.withheld += self._count
        alone = not others
        again = self._count > 1 and sent_at > self._since
        if not (
            spent
            or probing
            or (again and (alone or (latency is not None and now - self._since >= 2 * latency)))
        ):
            return None
        rest = self._rest if told is None else told
        self._rest = min(self._rest * 2, _LONGEST_REST)
        self._since, self._count, self.withheld = now + rest, 0, _ALL
        return rest
