"""What is asked: bodies of chat completion requests, ready to be sent. A body is a function of its index, so that several processes
can share a schedule.

A synthetic token is a short common word, which is one token with most tokenizers; what the provider counted is what is reported.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from runmgr.exceptions import UserError
from runmgr.load.trace import BLOCK_TOKENS, TraceRow
from runmgr.models.sim_config import Distribution

__all__ = ("FilePrompts", "Prompts", "SyntheticPrompts", "TracePrompts", "read_prompts")

_WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
    "car",
    "city",
    "community",
    "name",
    "president",
    "team",
    "minute",
    "idea",
    "kid",
    "body",
    "information",
    "back",
    "parent",
    "face",
    "others",
    "level",
    "office",
    "door",
    "health",
    "person",
    "art",
    "war",
    "history",
    "party",
    "result",
    "change",
    "morning",
    "reason",
    "research",
    "girl",
    "guy",
    "moment",
    "air",
    "teacher",
    "force",
    "education",
]
_POOL = 1 << 15
_MASK = (1 << 64) - 1


class Prompts(Protocol):
    """Where bodies come from."""

    def body(self, index: int) -> bytes:
        """The request with this place in the schedule."""
        ...


class Text:
    """Words to cut prompts from: one long text with where each word begins, so that a prompt is a slice."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        words = rng.choices(_WORDS, k=_POOL)
        self._text = " ".join(words).encode()
        self._ends: list[int] = []
        at = -1
        for word in words:
            at += len(word) + 1
            self._ends.append(at)

    def words(self, start: int, count: int) -> bytes:
        """So many words from a place on; round and round."""
        start %= _POOL
        pieces: list[bytes] = []
        while count > 0:
            take = min(count, _POOL - start)
            begin = self._ends[start - 1] + 1 if start else 0
            pieces.append(self._text[begin : self._ends[start + take - 1]])
            count -= take
            start = 0
        return b" ".join(pieces)


class _Frame:
    """A body around its messages."""

    def __init__(self, model: str, fields: Mapping[str, Any]) -> None:
        self._before = b'{"model":' + json.dumps(model).encode() + b',"messages":'
        more = {"stream": True, "stream_options": {"include_usage": True}, **fields}
        self._after = b"," + json.dumps(more, separators=(",", ":")).encode()[1:]
        self._fixed = self._after

    def around(self, messages: bytes, max_tokens: int | None = None) -> bytes:
        if max_tokens is None:
            return self._before + messages + self._after
        return b'%b%b,"max_tokens":%d%b' % (self._before, messages, max_tokens, self._after)


class FilePrompts:
    """Prompts of a file, in order, round and round.

    Args:
        model: the model's name for the provider.
        prompts: texts, or lists of messages.
        output: limit on the answer's tokens.
        fields: more fields of the body.
        seed: of the limits.
    """

    def __init__(
        self,
        model: str,
        prompts: Sequence[Any],
        *,
        output: Distribution | None,
        fields: Mapping[str, Any],
        seed: int,
    ) -> None:
        self._frame = _Frame(model, fields)
        self._messages = [
            json.dumps(
                [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt,
                separators=(",", ":"),
                ensure_ascii=False,
            ).encode()
            for prompt in prompts
        ]
        self._output = output
        self._seed = seed

    def body(self, index: int) -> bytes:
        """Its prompt, and a limit drawn for it."""
        limit = None if self._output is None else _draw(self._output, self._seed, index, 1)
        return self._frame.around(self._messages[index % len(self._messages)], limit)


class SyntheticPrompts:
    """Prompts of random words, no two the same.

    Args:
        model: the model's name for the provider.
        input: length in tokens.
        output: limit on the answer's tokens.
        fields: more fields of the body.
        seed: of words and lengths.
        prefix: tokens at the beginning that are the same in all.
    """

    def __init__(
        self,
        model: str,
        *,
        input: Distribution,
        output: Distribution | None,
        fields: Mapping[str, Any],
        seed: int,
        prefix: int = 0,
    ) -> None:
        self._frame = _Frame(model, fields)
        self._input = input
        self._output = output
        self._seed = seed
        self._text = Text(seed)
        self._prefix = self._text.words(0, prefix) if prefix else b""

    def body(self, index: int) -> bytes:
        """Words from a place of its own."""
        count = _draw(self._input, self._seed, index, 0)
        words = self._text.words(_mix(self._seed, index, 2), count)
        if self._prefix:
            words = self._prefix + b" " + words
        limit = None if self._output is None else _draw(self._output, self._seed, index, 1)
        return self._frame.around(b'[{"role":"user","content":"' + words + b'"}]', limit)


class TracePrompts:
    """Prompts as long as a trace says, with the prefixes that its rows share.

    Args:
        model: the model's name for the provider.
        rows: the trace.
        length_scale: what its lengths were multiplied by; blocks are scaled by it as well.
        fields: more fields of the body.
        seed: of the words.
    """

    def __init__(
        self,
        model: str,
        rows: Sequence[TraceRow],
        *,
        length_scale: float,
        fields: Mapping[str, Any],
        seed: int,
    ) -> None:
        self._frame = _Frame(model, fields)
        self._rows = rows
        self._block = max(1, round(BLOCK_TOKENS * length_scale))
        self._seed = seed
        self._text = Text(seed)

    def body(self, index: int) -> bytes:
        """The row's blocks, and what is left of its length in words of its own."""
        row = self._rows[index]
        left = row.input_tokens
        pieces: list[bytes] = []
        for block in row.blocks:
            take = min(left, self._block)
            if take <= 0:
                break
            pieces.append(self._text.words(_mix(self._seed, block, 3), take))
            left -= take
        if left > 0:
            pieces.append(self._text.words(_mix(self._seed, index, 2), left))
        content = b" ".join(pieces)
        return self._frame.around(b'[{"role":"user","content":"' + content + b'"}]', row.output_tokens)


def read_prompts(path: Path) -> list[Any]:
    """A file's prompts: texts, or lists of messages. Blocks on the disk.

    ``.txt``: a prompt a line. Else JSONL: a text, or an object with ``messages``, ``prompt``, ``input`` or ``question``.

    Raises:
        UserError: names the file, the line and what is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts {path}: cannot be read: {error}") from None
    prompts: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if path.suffix == ".txt":
            prompts.append(line)
            continue
        try:
            given: Any = json.loads(line)
        except ValueError as error:
            raise UserError(f"--prompts {path}:{number}: not JSON: {error}") from None
        prompts.append(_prompt(given, f"--prompts {path}:{number}"))
    if not prompts:
        raise UserError(f"--prompts {path}: holds no prompts")
    return prompts


def _prompt(given: Any, where: str) -> Any:
    if isinstance(given, str):
        return given
    if isinstance(given, dict):
        fields = cast("dict[str, Any]", given)
        messages = fields.get("messages")
        if isinstance(messages, list) and messages:
            return cast("list[Any]", messages)
        for name in ("prompt", "input", "question"):
            if isinstance(fields.get(name), str):
                return fields[name]
    raise UserError(f"{where}: a text, or an object with prompt, input, question or messages is needed")


def _mix(seed: int, index: int, what: int) -> int:
    """64 bits that depend on all three; splitmix64's finalizer (G. Steele, D. Lea, C. Flood, OOPSLA 2014)."""
    z = (seed * 0x9E3779B97F4A7C15 + index * 4 + what + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _draw(distribution: Distribution, seed: int, index: int, what: int) -> int:
    if distribution.shape == "constant":
        return max(1, round(distribution.a))
    return max(1, round(distribution.draw((_mix(seed, index, what) >> 11) * 2.0**-53)))
