"""How many resends a model may get: a part of its first sends. Pure: the caller brings the time.

Where a provider is dying, resends would multiply what it is asked. So each first send earns a part of a resend, each resend
spends one, and where nothing is left resends wait for their turn, one a second, instead of failing: a faulty provider is
survived and a dying one not hammered. The form is that of Finagle's ``RetryBudget`` (github.com/twitter/finagle, Apache-2.0), a
token bucket filled by requests and, slowly, by time; it refuses where this one makes wait.
"""

from __future__ import annotations

__all__ = ("RetryBudget",)

RESERVE = 10.0
"""Resends that are there at the beginning."""
A_SECOND = 1.0
"""Resends that time earns."""
_MOST = 1_000.0
"""Resends that can be saved up."""


class RetryBudget:
    """The resends of one model.

    Args:
        share: resends that a first send earns; None: they are not limited.
    """

    __slots__ = ("_at", "_balance", "share")

    def __init__(self, share: float | None) -> None:
        self.share = share
        self._balance = RESERVE
        self._at: float | None = None

    def sent(self) -> None:
        """A first send."""
        if self.share is not None:
            balance = self._balance + self.share
            self._balance = balance if balance < _MOST else _MOST

    def resend(self, now: float) -> float:
        """Spend a resend: gives the seconds until it may be sent, 0.0 where there is one left."""
        if self.share is None:
            return 0.0
        if self._at is not None and self._balance < RESERVE:
            self._balance = min(RESERVE, self._balance + (now - self._at) * A_SECOND)
        self._at = now
        self._balance -= 1.0
        return max(0.0, -self._balance / A_SECOND)
