"""Whether the client can be believed: how late its own loop is.

A client that has no time left reports its own waiting as the server's. So the loop is asked twenty times a second to do a thing at a
set moment, and how late it was is a figure of the result.
"""

from __future__ import annotations

import trio

from runmgr.load.histogram import Histogram

__all__ = ("watch_loop",)

_EVERY = 0.05


async def watch_loop(lag: Histogram, warmup: float) -> None:
    """Measure the loop's lateness until cancelled. A loop that stood still is late for every moment that passed meanwhile.

    Args:
        lag: where to count it.
        warmup: seconds at the start that do not count.
    """
    due = trio.current_time() + warmup
    while True:
        due += _EVERY
        await trio.sleep_until(due)
        now = trio.current_time()
        lag.add(now - due)
        while due + _EVERY < now:
            due += _EVERY
            lag.add(now - due)
