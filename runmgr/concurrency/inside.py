"""Saying that trio does not run, where trio itself would say it in words of its inside."""

from __future__ import annotations

import trio

from runmgr.exceptions import UserError

__all__ = ("check_in_trio",)


def check_in_trio() -> None:
    """Raises ``UserError`` where the caller is no trio task: most often a program that still says ``asyncio.run``."""
    if not trio.lowlevel.in_trio_task():
        raise UserError(
            "runmgr needs trio, and this is no trio task: start the program with `trio.run(main)`, not with "
            "`asyncio.run(main())`. In a program that stays on asyncio: `async with RunPool(agent).as_asyncio() as pool: "
            "await pool.run(prompt)`"
        )
