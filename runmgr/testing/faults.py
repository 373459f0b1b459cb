"""What goes wrong in a simulation, and how often."""

from __future__ import annotations

import random
from typing import Literal, TypeAlias

import attrs

__all__ = ("Fault", "Faults")

Fault: TypeAlias = Literal["429", "500", "503", "disconnect", "hang", "lost", "malformed"]


@attrs.frozen(kw_only=True)
class Faults:
    """Rates are probabilities: of a request, of a tool call, of a run.

    Args:
        throttle: a request is answered 429, with or without a ``Retry-After``.
        server_error: a request is answered 500 or 503.
        disconnect: its connection breaks before an answer was made.
        hang: nothing comes for ``hang_seconds``, then the connection breaks.
        lost: the answer was made and charged for, and its connection breaks.
        malformed: the answer was made and charged for, and is cut or garbled.
        cut: a stream ends in the middle.
        tool_error: a tool of the built-in scenario raises.
        cancel: a user cancels a run.
        pause: a user pauses a run, and lets it go on later.
        send: a user sends a message to a run.
        crashes: how often the process dies, at most; where is drawn: before or after a write of the journal, or any time.
        disk: a process's disk fails it, at a write that is drawn: it is full, fails, or has become read-only.
        damage: the journal of a process that has ended is damaged: pages are overwritten, or its end is cut off.
        latency: seconds that an answer takes at most.
        hang_seconds: see ``hang``.
    """

    throttle: float = 0.02
    server_error: float = 0.02
    disconnect: float = 0.01
    hang: float = 0.005
    lost: float = 0.01
    malformed: float = 0.01
    cut: float = 0.02
    tool_error: float = 0.01
    cancel: float = 0.05
    pause: float = 0.05
    send: float = 0.05
    crashes: int = 4
    disk: float = 0.1
    damage: float = 0.0
    latency: float = 2.0
    hang_seconds: float = 30.0

    @classmethod
    def none(cls) -> Faults:
        """A world in which nothing goes wrong."""
        return cls(
            throttle=0, server_error=0, disconnect=0, hang=0, lost=0, malformed=0, cut=0, tool_error=0, cancel=0,
            pause=0, send=0, crashes=0, disk=0, damage=0,
        )  # fmt: skip

    @classmethod
    def drawn(cls, rng: random.Random) -> Faults:
        """A world in which some things go wrong often, some now and then, some never."""

        def rate(most: float) -> float:
            return rng.choice((0.0, most / 10, most))

        return cls(
            throttle=rate(0.2), server_error=rate(0.15), disconnect=rate(0.1), hang=rate(0.03), lost=rate(0.1),
            malformed=rate(0.1), cut=rate(0.2), tool_error=rate(0.1), cancel=rate(0.3), pause=rate(0.3), send=rate(0.3),
            crashes=rng.randint(1, 5), latency=rng.choice((0.0, 0.5, 2.0)), disk=rate(0.4), damage=rate(0.3),
        )  # fmt: skip

    def draw(self, rng: random.Random) -> Fault | None:
        """What happens to one request."""
        value = rng.random()
        for fault, rate in (
            ("429", self.throttle),
            (rng.choice(("500", "503")), self.server_error),
            ("disconnect", self.disconnect),
            ("hang", self.hang),
            ("lost", self.lost),
            ("malformed", self.malformed),
        ):
            if value < rate:
                return fault  # pyright: ignore[reportReturnType]
            value -= rate
        return None
