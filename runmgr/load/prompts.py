"""What is asked: bodies of chat completion requests, ready to be sent. A body is a function of its index, so that several processes
can share a schedule.

A synthetic token is a short common word, which is one token with most tokenizers; what the provider counted is what is reported.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from runmgr.exceptions import UserError
from runmgr.load.talk import Frame, Talk, Turns, message
from runmgr.load.trace import BLOCK_TOKENS, TraceRow
from runmgr.load.words import Lot, Text, draw, mix, uniform
from runmgr.models.sim_config import Distribution

__all__ = ("FilePrompts", "MixedPrompts", "Prompts", "SyntheticPrompts", "TracePrompts", "read_prompts")


class Prompts(ABC):
    """Where bodies come from.

    Attributes:
        talks: whether a conversation may go on after its first turn.
    """

    talks = False

    @abstractmethod
    def prepared(self, index: int) -> bytes | Talk:
        """The request with this place in the schedule: its body, or a conversation that begins with it."""

    def source(self, index: int) -> str | None:  # noqa: ARG002  (for mixtures)
        """Which of several sources it is of; None where there is one."""
        return None


class _Turned(Prompts):
    """What draws limits and times to think.

    Args:
        model: the model's name for the provider.
        output: limit on an answer's tokens.
        think: seconds between an answer and the next turn.
        fields: more fields of the body.
        seed: of what is drawn.
    """

    def __init__(
        self,
        model: str,
        *,
        output: Distribution | None = None,
        think: Distribution | None = None,
        fields: Mapping[str, Any],
        seed: int,
    ) -> None:
        self._frame = Frame(model, fields)
        self._output = output
        self._think = think
        self._seed = seed

    def _limit(self, index: int) -> int | None:
        return None if self._output is None else draw(self._output, self._seed, index, 1)

    def _talk(self, index: int, turns: Sequence[bytes]) -> Talk:
        own = mix(self._seed, index, 4)
        think, output = self._think, self._output
        return Talk(
            self._frame,
            turns,
            think=lambda turn: 0.0 if think is None else think.draw(uniform(own, turn, 5)),
            limit=lambda turn: None if output is None else draw(output, own, turn, 1),
        )


class FilePrompts(_Turned):
    """Prompts of a file, in order, round and round.

    Args:
        model: the model's name for the provider.
        prompts: texts, lists of messages, or the turns of conversations.
        output: limit on the answer's tokens.
        think: seconds between an answer and the next turn.
        fields: more fields of the body.
        seed: of the limits and the thinking.
    """

    def __init__(
        self,
        model: str,
        prompts: Sequence[Any],
        *,
        output: Distribution | None,
        think: Distribution | None = None,
        fields: Mapping[str, Any],
        seed: int,
    ) -> None:
        super().__init__(model, output=output, think=think, fields=fields, seed=seed)
        self.talks = any(isinstance(prompt, Turns) for prompt in prompts)
        self._messages: list[bytes | tuple[bytes, ...]] = [
            tuple(message("user", text) for text in prompt)
            if isinstance(prompt, Turns)
            else b"[" + message("user", prompt) + b"]"
            if isinstance(prompt, str)
            else json.dumps(prompt, separators=(",", ":"), ensure_ascii=False).encode()
            for prompt in prompts
        ]

    def prepared(self, index: int) -> bytes | Talk:
        """Its prompt, and a limit drawn for it."""
        messages = self._messages[index % len(self._messages)]
        if isinstance(messages, tuple):
            return self._talk(index, messages)
        return self._frame.around(messages, self._limit(index))


class SyntheticPrompts(_Turned):
    """Prompts of random words, no two the same.

    Args:
        model: the model's name for the provider.
        input: length in tokens; of each turn, where there are several.
        output: limit on the answer's tokens.
        turns: how many turns a conversation has; None: single requests.
        think: seconds between an answer and the next turn.
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
        turns: Distribution | None = None,
        think: Distribution | None = None,
        fields: Mapping[str, Any],
        seed: int,
        prefix: int = 0,
    ) -> None:
        super().__init__(model, output=output, think=think, fields=fields, seed=seed)
        self._input = input
        self._turns = turns
        self.talks = turns is not None
        self._text = Text(seed)
        self._prefix = self._text.words(0, prefix) if prefix else b""

    def prepared(self, index: int) -> bytes | Talk:
        """Words from a place of its own."""
        words = self._words(self._seed, index)
        if self._prefix:
            words = self._prefix + b" " + words
        first = b'{"role":"user","content":"' + words + b'"}'
        if self._turns is None:
            return self._frame.around(b"[" + first + b"]", self._limit(index))
        number = draw(self._turns, self._seed, index, 6)
        own = mix(self._seed, index, 7)
        return self._talk(
            index,
            [
                first,
                *(
                    b'{"role":"user","content":"' + self._words(own, turn) + b'"}'
                    for turn in range(1, number)
                ),
            ],
        )

    def _words(self, seed: int, index: int) -> bytes:
        return self._text.words(mix(seed, index, 2), draw(self._input, seed, index, 0))


class TracePrompts(Prompts):
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
        self._frame = Frame(model, fields)
        self._rows = rows
        self._block = max(1, round(BLOCK_TOKENS * length_scale))
        self._seed = seed
        self._text = Text(seed)

    def prepared(self, index: int) -> bytes:
        """The row's blocks, and what is left of its length in words of its own."""
        row = self._rows[index]
        left = row.input_tokens
        pieces: list[bytes] = []
        for block in row.blocks:
            take = min(left, self._block)
            if take <= 0:
                break
            pieces.append(self._text.words(mix(self._seed, block, 3), take))
            left -= take
        if left > 0:
            pieces.append(self._text.words(mix(self._seed, index, 2), left))
        content = b" ".join(pieces)
        return self._frame.around(b'[{"role":"user","content":"' + content + b'"}]', row.output_tokens)


class MixedPrompts(Prompts):
    """Several sources, each request of one of them by lot.

    Args:
        sources: name, weight and prompts of each.
        seed: of the lot.
    """

    def __init__(self, sources: Sequence[tuple[str, float, Prompts]], seed: int) -> None:
        self._sources = sources
        self._lot = Lot([weight for _, weight, _ in sources], seed)
        self.talks = any(prompts.talks for _, _, prompts in sources)

    def prepared(self, index: int) -> bytes | Talk:
        """Of the source that is drawn."""
        return self._sources[self._lot.of(index)][2].prepared(index)

    def source(self, index: int) -> str | None:
        """The source that is drawn."""
        return self._sources[self._lot.of(index)][0]


def read_prompts(path: Path) -> list[Any]:
    """A file's prompts: texts, lists of messages, or turns. Blocks on the disk.

    ``.txt``: a prompt a line. Else JSONL: a text, or an object with ``messages``, ``prompt``,
    ``input`` or ``question``, or with ``turns``: the user's messages of a conversation.

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
        turns = fields.get("turns")
        if isinstance(turns, list) and turns:
            texts = cast("list[Any]", turns)
            if all(isinstance(text, str) for text in texts):
                return Turns(texts)
            raise UserError(f"{where}: turns are the user's messages: texts")
        for name in ("prompt", "input", "question"):
            if isinstance(fields.get(name), str):
                return fields[name]
    raise UserError(
        f"{where}: a text, or an object with prompt, input, question, messages or turns is needed"
    )
