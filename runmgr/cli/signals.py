"""Ctrl-C and SIGTERM: the first stops a batch, the second ends the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from runmgr.batch.state import BatchState

__all__ = ("GRACE_SECONDS", "stop_on_signals")

GRACE_SECONDS = 1.7
"""How long results, journal, summary and report may take to be written after the first signal."""


async def stop_on_signals(resume_line: str, state: BatchState) -> None:
    """Stops the batch at the first SIGINT or SIGTERM; exits the process with 130 at the second, or after the grace time. Until cancelled.

    Args:
        resume_line: the command to go on with, for when there is no time to finish.
        state: the batch to stop.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            break
        state.stop("interrupted")
        print("\nrunmgr: stopping; once more to stop at once", file=sys.stderr, flush=True)

        def exit_now(*_: object) -> None:
            # What is in the journal is safe: a process that ends here resumes like one that was killed.
            show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a live display hides it
            os.write(2, f"{show_cursor}\nrunmgr: interrupted; go on with:\n{resume_line}\n".encode())
            os._exit(130)

        # From here on no event loop is needed to get out: a thread or a tool may hold it.
        signal.signal(signal.SIGINT, exit_now)
        signal.signal(signal.SIGTERM, exit_now)
        last_resort = threading.Timer(GRACE_SECONDS, exit_now)
        last_resort.daemon = True
        last_resort.start()
        try:
            await trio.sleep_forever()
        finally:
            last_resort.cancel()
