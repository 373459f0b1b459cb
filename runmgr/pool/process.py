"""What a process does to its pools: it may fork, and it ends.

A pool's thread is a daemon, so that a program that forgets to close its pool does not hang at its end; what runs then is
cancelled when the interpreter exits, within a bounded time, so that the journal is whole.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from typing import Protocol

__all__ = ("EXIT_SECONDS", "enter", "leave")

EXIT_SECONDS = 5.0
"""How long the interpreter's exit waits for all open pools together."""

_log = logging.getLogger("runmgr.pool")


class Engine(Protocol):
    """A pool's thread, as far as the process knows it."""

    name: str

    @property
    def busy(self) -> int:
        """How many runs have not ended."""
        ...

    def cancel(self, reason: str) -> None: ...
    def join(self, timeout: float | None = None) -> bool: ...
    def forked(self) -> None: ...


_open: dict[int, Engine] = {}


def enter(engine: Engine) -> None:
    """The engine's thread has started."""
    _open[id(engine)] = engine


def leave(engine: Engine) -> None:
    """The engine's thread has ended."""
    _open.pop(id(engine), None)


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    engines = list(_open.values())
    busy = {id(engine): engine.busy for engine in engines}
    for engine in engines:
        engine.cancel("the interpreter exits")
    for engine in engines:
        ended = engine.join(max(0.0, deadline - time.monotonic()))
        if not ended:
            _log.warning(
                "%s was left open, and is still busy %g s after the interpreter began to exit: it is abandoned",
                engine.name,
                EXIT_SECONDS,
            )
        elif busy[id(engine)]:
            _log.warning(
                "%s was left open, so %d runs were cancelled at the interpreter's exit. Call shutdown(), or use "
                "'with RunPool(...)'",
                engine.name,
                busy[id(engine)],
            )


def _in_child() -> None:
    engines = list(_open.values())
    _open.clear()
    for engine in engines:
        engine.forked()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
