"""Rate limits as providers have them: requests and tokens in a sliding minute, requests at once; said in headers of every answer."""

from __future__ import annotations

import math
from collections import deque

import attrs

from runmgr.sim.wire import Wire

__all__ = ("Limits", "Refusal")

_MINUTE = 60.0


@attrs.frozen
class Refusal:
    """Why a request is refused, and after how many seconds it may come again."""

    message: str
    after: float


class _Window:
    """Amounts of the last minute."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._entries: deque[tuple[float, int]] = deque()

    def trim(self, now: float) -> None:
        entries = self._entries
        while entries and now - entries[0][0] >= _MINUTE:
            self.used -= entries.popleft()[1]

    def add(self, now: float, amount: int) -> None:
        self._entries.append((now, amount))
        self.used += amount

    def room_after(self, now: float, amount: int) -> float:
        """Seconds until this much fits; of what never fits, until the window is empty."""
        over = self.used + amount - self.limit
        for at, each in self._entries:
            if over <= 0:
                break
            over -= each
            wait = at + _MINUTE - now
            if over <= 0:
                return wait
        return 0.0 if over <= 0 else self.empty_after(now)

    def empty_after(self, now: float) -> float:
        return max(0.0, self._entries[-1][0] + _MINUTE - now) if self._entries else 0.0

    def clear(self) -> None:
        self._entries.clear()
        self.used = 0


class Limits:
    """The limits of a server.

    Args:
        max_in_flight: more requests at once are refused.
        rpm: more requests in a sliding minute are refused.
        tpm: more tokens are: a request counts with its prompt when it comes, and with its answer when that is whole.
    """

    def __init__(self, max_in_flight: int | None, rpm: int | None, tpm: int | None) -> None:
        self.max_in_flight = max_in_flight
        self._windows = {
            name: _Window(limit) for name, limit in (("requests", rpm), ("tokens", tpm)) if limit is not None
        }

    def clear(self) -> None:
        """Forget the last minute."""
        for window in self._windows.values():
            window.clear()

    def take(self, now: float, in_flight: int, tokens: int) -> Refusal | None:
        """Count a request with its prompt's tokens, or say why not."""
        for name, window in self._windows.items():
            window.trim(now)
            amount = 1 if name == "requests" else tokens
            if window.used + amount > window.limit:
                return Refusal(f"Rate limit reached for {name}", window.room_after(now, amount))
        if self.max_in_flight is not None and in_flight > self.max_in_flight:
            return Refusal("Too many requests in flight", 1.0)
        for name, window in self._windows.items():
            window.add(now, 1 if name == "requests" else tokens)
        return None

    def spend(self, now: float, tokens: int) -> None:
        """Count an answer's tokens."""
        window = self._windows.get("tokens")
        if window is not None:
            window.add(now, tokens)

    def headers(self, now: float, wire: Wire) -> dict[str, str]:
        """What is left of them."""
        said: dict[str, str] = {}
        for name, window in self._windows.items():
            window.trim(now)
            left = max(0, window.limit - window.used)
            said |= wire.ratelimit(name, window.limit, left, window.empty_after(now))
        return said


def retry_after(seconds: float) -> str:
    """``Retry-After``: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))
