"""A trio clock of this process's CPU time that jumps over what nobody has to do: the wall time of a machine with nothing else to do.

For programs that only compute and sleep: sockets and threads are not waited for. What other processes take away does not show, but
for the caches.
"""

from __future__ import annotations

import time

import trio


class CpuClock(trio.abc.Clock):
    """Seconds of CPU, and of sleep that was jumped over."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def start_clock(self) -> None:
        """Nothing to start."""

    def current_time(self) -> float:
        """See `trio.abc.Clock`."""
        return self._skipped + time.process_time()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Asked by trio where no task can run: the sleep is over at once."""
        wait = deadline - self.current_time()
        if wait > 1_000:
            return wait
        self._skipped += max(0.0, wait)
        return 0.0
