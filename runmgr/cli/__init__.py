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
    if argv is None:
        from runmgr.cli.collector import calm

        calm()

    from runmgr.cli.app import run

    code = run(argv)
    if code == 130 and argv is None:
        _ends_at_once(code)
    return code


def _ends_at_once(code: int) -> None:
    """From now on a further signal gives the same code, however far the interpreter has come with its end."""
    import os
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: os._exit(code))
    # CPython remembers an interrupt that came while a text was executed (a namedtuple was made, say), and would end by the signal.
    exec("")  # noqa: S102  makes it forget
