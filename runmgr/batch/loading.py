"""Objects of the user's own modules, by ``module:name``."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any

from runmgr.exceptions import UserError

__all__ = ("load_object",)


def load_object(spec: str, option: str) -> Any:
    """What ``module:name`` names, e.g. ``evals.agents:support``; the current directory can be imported from.

    Args:
        spec: a dotted module, a colon, a dotted attribute.
        option: the option it came from, for messages.

    Raises:
        UserError: the form is another, the module cannot be imported (says why, and where in the user's code), or it has no such
            attribute.
    """
    module_name, colon, attribute = spec.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        way_out = f"write it as {module_name.removesuffix('.py').strip('./').replace('/', '.')}:{attribute or 'NAME'}"
        raise UserError(f"{option} {spec}: a module's name is needed, not a file's; {way_out}")
    if not colon or not module_name or not attribute:
        raise UserError(f"{option} {spec}: write it as module:name, e.g. evals.agents:support")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UserError(
                f"{option} {spec}: no module named {error.name!r} (looked in {here} and the installed packages)"
            ) from error
        raise UserError(f"{option} {spec}: importing it fails: {error}{_where(error)}") from error
    except Exception as error:
        raise UserError(
            f"{option} {spec}: importing it fails: {type(error).__name__}: {error}{_where(error)}"
        ) from error
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        close = get_close_matches(attribute, [name for name in vars(module) if not name.startswith("_")], n=1)
        hint = f"; did you mean {module_name}:{close[0]}?" if close else ""
        raise UserError(f"{option} {spec}: module {module_name!r} has no {attribute!r}{hint}") from error


def _where(error: BaseException) -> str:
    """The innermost frame outside the import machinery and this file."""
    traceback, where = error.__traceback__, ""
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name != __file__ and "importlib" not in name:
            where = f" ({name}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return where
