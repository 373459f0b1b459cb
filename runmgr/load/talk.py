"""Conversations of several turns: each question is asked when its predecessor was answered and a person has thought.

The history that a turn carries holds the answers that the server really gave.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ("Frame", "Talk", "Turns", "message")


class Turns(tuple[Any, ...]):
    """The user's messages of one conversation, in order: texts."""

    __slots__ = ()


def message(role: str, content: Any) -> bytes:
    """A message as the body has it."""
    return json.dumps({"role": role, "content": content}, separators=(",", ":"), ensure_ascii=False).encode()


class Frame:
    """A body around its messages.

    Args:
        model: the model's name for the provider.
        fields: more fields of the body.
    """

    def __init__(self, model: str, fields: Mapping[str, Any]) -> None:
        self._before = b'{"model":' + json.dumps(model).encode() + b',"messages":'
        more = {"stream": True, "stream_options": {"include_usage": True}, **fields}
        self._after = b"," + json.dumps(more, separators=(",", ":")).encode()[1:]

    def around(self, messages: bytes, max_tokens: int | None = None) -> bytes:
        """The body of these messages (a JSON array)."""
        if max_tokens is None:
            return self._before + messages + self._after
        return b'%b%b,"max_tokens":%d%b' % (self._before, messages, max_tokens, self._after)


class Talk:
    """One conversation under way.

    Args:
        frame: of its bodies.
        turns: the user's messages, encoded.
        think: seconds before a turn (its number, from 2).
        limit: of a turn's answer, in tokens.

    Attributes:
        body: of the turn that is next to be sent.
        turn: its number, from 1.
    """

    __slots__ = ("_frame", "_limit", "_messages", "_think", "_turns", "body", "turn")

    def __init__(
        self,
        frame: Frame,
        turns: Sequence[bytes],
        *,
        think: Callable[[int], float],
        limit: Callable[[int], int | None],
    ) -> None:
        self._frame = frame
        self._turns = turns
        self._think = think
        self._limit = limit
        self._messages = [turns[0]]
        self.turn = 1
        self.body = frame.around(b"[" + turns[0] + b"]", limit(1))

    def answered(self, text: str) -> float | None:
        """Go on to the next turn, this having been the answer; gives the seconds to think before it, or None at the end."""
        if self.turn >= len(self._turns):
            return None
        self._messages += [message("assistant", text), self._turns[self.turn]]
        self.turn += 1
        self.body = self._frame.around(b"[" + b",".join(self._messages) + b"]", self._limit(self.turn))
        return self._think(self.turn)
