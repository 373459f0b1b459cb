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

GRACE_SECONDS = 1.8
"""How long results, journal, summary and report may take to be written after the first signal."""


async def stop_on_signals(state: BatchState) -> None:
    """Stops the batch at the first SIGINT or SIGTERM; exits the process with 130 at the second, or after the grace time. Until cancelled."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            state.stop("interrupted")
            print("\nrunmgr: stopping; once more to stop at once", file=sys.stderr, flush=True)
            break
        # From here on no event loop is needed to get out: a thread or a tool may hold it.
        signal.signal(signal.SIGINT, _exit_now)
        signal.signal(signal.SIGTERM, _exit_now)
        last_resort = threading.Timer(GRACE_SECONDS, _exit_now, (None, None))
        last_resort.daemon = True
        last_resort.start()
        await trio.sleep_forever()


def _exit_now(_number: object, _frame: object) -> None:
    """What is in the journal is safe: a process that ends here resumes like one that was killed."""
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h\n")  # the live display hides the cursor
    os._exit(130)
