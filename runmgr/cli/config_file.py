"""``--config FILE.toml``: options in a file; the command line goes before them."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from runmgr.exceptions import UserError

__all__ = ("read_config",)

_NOT_HERE = ("config", "help")


def read_config(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Takes a TOML file's values as the command's defaults. Keys are the options' names; those that may be repeated take arrays, and
    ``set`` a table. Relative paths in it are relative to where the command is called.

    Raises:
        UserError: the file cannot be read, or has a key that is no option.
    """
    if value is None:
        return
    try:
        data = tomllib.loads(Path(value).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {value}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--config {value}: not TOML: {error}") from None
    by_name: dict[str, click.Parameter] = {}
    for parameter in ctx.command.params:
        for option in (parameter.name or "", *parameter.opts):
            by_name[option.lstrip("-").replace("-", "_")] = parameter
    defaults: dict[str, Any] = {}
    for key, given in data.items():
        parameter = by_name.get(key.replace("-", "_"))
        if parameter is None or parameter.name in _NOT_HERE:
            known = sorted({p.opts[0].lstrip("-") for p in ctx.command.params if p.name not in _NOT_HERE})
            close = get_close_matches(key.replace("_", "-"), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"--config {value}: no option {key!r}{hint} There are {', '.join(known)}")
        assert parameter.name is not None
        defaults[parameter.name] = _value(given, parameter)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _value(given: Any, parameter: click.Parameter) -> Any:
    several = parameter.nargs == -1 or bool(getattr(parameter, "multiple", False))
    if isinstance(given, dict):
        return [f"{key}={_text(each)}" for key, each in given.items()]  # pyright: ignore[reportUnknownVariableType]
    if several:
        return [_text(each) for each in given] if isinstance(given, list) else [_text(given)]  # pyright: ignore[reportUnknownVariableType]
    return given if isinstance(given, bool) else _text(given)


def _text(value: Any) -> str:
    if isinstance(value, list):
        if all(isinstance(each, (int, float)) for each in value):  # pyright: ignore[reportUnknownVariableType]
            return ",".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
        import json

        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
