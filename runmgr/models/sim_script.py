"""Scripts of a simulated model: what it says to a question, turn by turn, tool calls among it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from runmgr.exceptions import UserError

__all__ = ("Script", "ScriptedCall", "ScriptedTurn", "read_scripts")


class ScriptedCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call: the tool's name, and its arguments as they are sent (JSON, or a text that need not be JSON)."""

    name: str
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict[str, Any])

    @property
    def text(self) -> str:
        """The arguments as the wire has them."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


class ScriptedTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer: calls (several at once are parallel ones), or a text."""

    text: str | None = None
    calls: tuple[ScriptedCall, ...] = ()


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said to a question.

    Args:
        turns: in order; the last is repeated.
        prompt: where this stands in the user's message; None: in any.
    """

    turns: tuple[ScriptedTurn, ...]
    prompt: str | None = None

    def turn(self, answered: int) -> ScriptedTurn:
        """Which turn it is after so many tool results."""
        for turn in self.turns[:-1]:
            if answered < len(turn.calls) or not turn.calls:
                return turn
            answered -= len(turn.calls)
        return self.turns[-1]


def read_scripts(path: Path) -> tuple[Script, ...]:
    """A JSONL file of scripts: ``{"prompt": ..., "turns": [{"calls": [{"name": ..., "arguments": {...}}]}, {"text": ...}]}``. Blocks.

    Raises:
        UserError: names the file, the line and what is wrong.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"--script {path}: cannot be read: {error.strerror or error}") from None
    found: list[Script] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            script = msgspec.json.decode(line, type=Script)
        except msgspec.DecodeError as error:
            raise UserError(f"--script {path}:{number}: {error}") from None
        where = f"--script {path}:{number}"
        if not script.turns:
            raise UserError(f"{where}: `turns` is empty; give at least one with text or calls")
        for place, turn in enumerate(script.turns):
            if (turn.text is None) == (not turn.calls):
                raise UserError(f"{where}: turn {place + 1} needs either text or calls")
            if turn.text is not None and place < len(script.turns) - 1:
                raise UserError(
                    f"{where}: turn {place + 1} is a text, which ends the answer; only the last can be one"
                )
        found.append(script)
    if not found:
        raise UserError(f"--script {path}: holds no scripts")
    return tuple(found)
