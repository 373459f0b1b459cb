"""Counts tokens where a provider gives no usage. Never needed to start: without one, pieces of content are counted, and it is said."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

from runmgr.exceptions import UserError

__all__ = ("Tokenizer", "load_tokenizer", "prompt_text")

Tokenizer: TypeAlias = Callable[[str], int]
"""A text's tokens."""


def load_tokenizer(spec: str) -> Tokenizer:
    """A tokenizer by its name: blocks on the disk, never on the network.

    Args:
        spec: a file ``tokenizer.json`` as Hugging Face's ``tokenizers`` writes it (or a directory with one), or ``module:name`` of a
            function of yours that takes a text and gives its number of tokens, or the tokens.

    Raises:
        UserError: it cannot be loaded.
    """
    path = Path(spec)
    if path.is_dir():
        path /= "tokenizer.json"
    if path.exists():
        return _of_file(path)
    if ":" not in spec or spec.endswith(".json"):
        raise UserError(
            f"--tokenizer {spec}: no such file; a tokenizer.json is needed, or module:name of a function"
        )
    module, _, name = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--tokenizer {spec}: {error}") from None
    return _checked(found, spec)


def _of_file(path: Path) -> Tokenizer:
    try:
        tokenizers: Any = importlib.import_module("tokenizers")
    except ImportError:
        raise UserError(
            f"--tokenizer {path}: needs the package tokenizers; install it, or name a function of yours as module:name"
        ) from None
    try:
        tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the package raises no other
        raise UserError(f"--tokenizer {path}: cannot be read: {error}") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _checked(found: Any, spec: str) -> Tokenizer:
    try:
        counted = found("one two three")
        size = counted if isinstance(counted, int) else len(counted)
    except Exception as error:
        raise UserError(f"--tokenizer {spec}: fails on a text: {type(error).__name__}: {error}") from error
    if size < 1:
        raise UserError(f"--tokenizer {spec}: says that 'one two three' has {size} tokens")
    return found if isinstance(counted, int) else lambda text: len(found(text))


def prompt_text(body: bytes) -> str:
    """The text of a request's messages; what a chat template adds is not in it."""
    messages: list[dict[str, Any]] = json.loads(body)["messages"]
    texts: list[str] = []
    for one in messages:
        content = one.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            for part in cast("list[Any]", content):
                text = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else None
                if isinstance(text, str):
                    texts.append(text)
    return "\n".join(texts)
