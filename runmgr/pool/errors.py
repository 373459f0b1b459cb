"""What pools raise beside what supervisors raise."""

from __future__ import annotations

import queue

import trio

from runmgr.exceptions import RunmgrError

__all__ = ("PoolFull",)


class PoolFull(RunmgrError, queue.Full, trio.WouldBlock):
    """``submit_nowait`` found no room: as many runs are queued as may be. Also a ``queue.Full`` and a ``trio.WouldBlock``."""
