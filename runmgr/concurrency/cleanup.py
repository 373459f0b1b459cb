"""Time to clean up in, when the task is being cancelled."""

from __future__ import annotations

import trio

__all__ = ("shielded_cleanup",)


def shielded_cleanup(seconds: float) -> trio.CancelScope:
    """A scope in which awaiting works although the task is cancelled, for at most ``seconds``.

    ::

        finally:
            with shielded_cleanup(5):
                await connection.aclose()

    Args:
        seconds: counted from entering; then the block is cancelled (ask the scope's ``cancelled_caught``). Without a
            bound, a clean-up that hangs would hang the whole program.

    Raises:
        ValueError: ``seconds`` is negative, not a number, or infinite.
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"a clean-up needs a bound in seconds, got {seconds!r}")
    return trio.move_on_after(seconds, shield=True)
