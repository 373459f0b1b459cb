"""What a 429 means: a spent quota, or only one request too many. Pure: the caller brings the time.

A quota is spent where the answer's own headers say so, or where within a round trip of the first refusal every request that was
sent since is refused too. Then the whole quota rests, for as long as the provider asks, else for 1, 2, 4, ... seconds,
and begins again with one request, which has to succeed before others follow. An isolated refusal delays only its own request.

Meanwhile, each refusal takes more permits out of circulation (1, 2, 3, ...) until a request sent since has succeeded, so that
finding out costs about the square root of the requests in flight, and not a storm.
"""

from __future__ import annotations

__all__ = ("Refusals",)

_FIRST_REST = 1.0
_LONGEST_REST = 60.0
_ALL = 1 << 30


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
