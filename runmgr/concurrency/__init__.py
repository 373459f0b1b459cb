"""Small mechanisms on trio, and some that need no trio, that know no agents. One idea a module.

- `Mailbox`: bounded; made when somebody first writes
- `Broadcast`, `Subscription`: events to many readers, none of whom stalls the sender unless it asks to
- `ResizableLimiter`: permits whose number may change while they are out
- `PauseGate`: pass or wait
- `open_timers`, `Timers`: sleeping through one shared heap
- `BareNursery`: what an ``open_x()`` is built on
- `LoopThread`: an event loop in a thread, for blocking forms of what is async
- `shielded_cleanup`: bounded time to clean up in
- `ticks_of`: reading trio's clock for less
- `check_in_trio`: an error for programs that still run asyncio
- pure: `FairQueue` (priority, then weighted fair between groups), `Gcra` (rates), `full_jitter` (backoff)
"""

from __future__ import annotations

from .backoff import backoff_ceiling, full_jitter
from .broadcast import Broadcast
from .cleanup import shielded_cleanup
from .fair import FairQueue, FairQueueStatistics, QueueFull
from .gate import PauseGate
from .gcra import Gcra
from .inside import check_in_trio
from .limiter import LimiterStatistics, ResizableLimiter
from .loop_thread import LoopThread
from .mailbox import Mailbox, MailboxStatistics
from .nursery import BareNursery
from .subscription import Overflow, Subscription, SubscriptionStatistics
from .ticks import ticks_of
from .timers import Timers, TimersStatistics, open_timers

__all__ = (
    "BareNursery",
    "Broadcast",
    "FairQueue",
    "FairQueueStatistics",
    "Gcra",
    "LimiterStatistics",
    "LoopThread",
    "Mailbox",
    "MailboxStatistics",
    "Overflow",
    "PauseGate",
    "QueueFull",
    "ResizableLimiter",
    "Subscription",
    "SubscriptionStatistics",
    "Timers",
    "TimersStatistics",
    "backoff_ceiling",
    "check_in_trio",
    "full_jitter",
    "open_timers",
    "shielded_cleanup",
    "ticks_of",
)
