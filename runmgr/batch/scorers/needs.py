"""Libraries that only some scorers need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from runmgr.exceptions import UserError

__all__ = ("library",)


def library(name: str, scorer: str) -> Any:
    """The module, imported when a scorer is asked for.

    Raises:
        UserError: it is not installed; says what to install.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        raise UserError(f"--scorer {scorer} needs {package}: pip install 'runmgr[scoring]'") from error
