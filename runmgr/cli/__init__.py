"""The command ``runmgr``: one file a command, imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ("main",)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code.

    A mistake of the user's is one line on stderr and 2; an interrupt is 130; a bug of ours is a traceback.

    Args:
        argv: the words after ``runmgr``; None takes the process's own.
    """
    from runmgr.cli.app import run

    return run(argv)
