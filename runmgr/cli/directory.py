"""A results directory that somebody named."""

from __future__ import annotations

from pathlib import Path

from runmgr.exceptions import UserError

__all__ = ("checked_directory",)


def checked_directory(path: Path) -> Path:
    """The directory; a file in it does for the directory.

    Raises:
        UserError: there is none.
    """
    if path.is_dir():
        return path
    if path.exists():
        return path.parent
    raise UserError(f"{path}: no such directory; name the one that a batch wrote (its --out)")
