"""How much a request can use at most, before it is sent, and what of a provider's counts can be right afterwards. Pure.

Input: by the model's tokenizer, where one was given (`open_supervisor(tokenizers=)`), with what any provider's template adds; else in
bytes: a tokenizer that works on bytes never makes more tokens than there are bytes, and the JSON form of messages and tools
has more bytes than any provider's own template of them (names, times, brackets: over a hundred bytes a part). Pictures and
other files are not text: each counts as `FILE_TOKENS`, more than any of today's providers takes for a page or picture.

Output: ``max_tokens``. Without it there is no bound; `OUTPUT_TOKENS` is then assumed and the budget says that it is soft.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_not
from typing import Any, TypeAlias, cast

import msgspec

from runmgr.messages import SystemPromptPart, UserPromptPart, encode_message
from runmgr.messages.content import BinaryContent, FileUrl
from runmgr.structs import replace
from runmgr.usage import RequestUsage

__all__ = (
    "COUNT_BITS",
    "FILE_TOKENS",
    "OUTPUT_TOKENS",
    "CountTokens",
    "Sizes",
    "most_output",
    "put_right",
)

CountTokens: TypeAlias = Callable[[str], int]
"""From a text to the number of its tokens."""

FILE_TOKENS = 16_384
PART_BYTES = 100
"""What a part counts beside its text: more than the names, brackets and marks that any provider's template puts around it."""
PART_TOKENS = 16
"""The same in tokens: for who has a tokenizer."""
_TEXTS = frozenset({UserPromptPart, SystemPromptPart})
OUTPUT_TOKENS = 4_096
COUNT_BITS = 32
"""A number of tokens has no more: what is larger, or below 0, is no count of one request's."""


class Sizes:
    """The messages of a run whose bytes or tokens are counted, so that each is counted once and not at every turn.

    Args:
        count: the tokenizer; None counts bytes.
    """

    __slots__ = ("count", "messages", "size")

    def __init__(self, count: CountTokens | None = None) -> None:
        self.count = count
        self.messages: list[Any] = []
        self.size = 0

    def of(self, messages: Sequence[Any]) -> int:
        """All of them together. The last one may still be changed by its run, so it is counted anew each time."""
        known = self.messages
        if known or len(messages) > 1:
            number = len(known)
            if number >= len(messages) or any(map(is_not, known, messages)):
                known.clear()
                self.size = number = 0
            for message in messages[number:-1]:
                self.size += self._one(message)
                known.append(message)
        if not messages:
            return 0
        return self.size + (_message_bytes(messages[-1]) if self.count is None else self._one(messages[-1]))

    def of_tools(self, params: Any) -> int:
        """What comes on top for tools and output schemas."""
        return _tools_bytes(params) if self.count is None else _tools_tokens(params, self.count)

    def _one(self, message: Any) -> int:
        return _message_bytes(message) if self.count is None else _message_tokens(message, self.count)


def most_output(max_tokens: float) -> int | None:
    """The output tokens that any ``max_tokens`` allows; None where it bounds nothing: servers take -1 for no limit."""
    return None if max_tokens < 0 else int(min(max_tokens, 1 << COUNT_BITS))


def put_right(usage: RequestUsage) -> tuple[RequestUsage, bool]:
    """A provider's counts as they can be right, and whether they are counts at all; where not, nothing is known and nothing counted.

    Whoever tells more tokens of caches than of input tells them apart from it: then they are added to it.
    """
    told = (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    if not all(isinstance(count, int) for count in told):
        return RequestUsage(), False
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    counts = usage.input_tokens | usage.output_tokens | usage.cache_read_tokens | usage.cache_write_tokens
    if counts >> COUNT_BITS:
        return RequestUsage(), False
    if cached > usage.input_tokens:
        return replace(usage, input_tokens=usage.input_tokens + cached), True
    return usage, True


def _message_bytes(message: Any) -> int:
    # What a user says in plain text is most of it, and needs no encoding to be measured.
    instructions = getattr(message, "instructions", None)
    size = _length(instructions) if instructions else 0
    for part in message.parts:
        if type(part) not in _TEXTS or type(content := part.content) is not str:
            return _encoded(message, len)
        size += PART_BYTES + (len(content) if content.isascii() else _length(content))
    return size


def _message_tokens(message: Any, count: CountTokens) -> int:
    instructions = getattr(message, "instructions", None)
    tokens = count(instructions) + PART_TOKENS if instructions else 0
    for part in message.parts:
        content = getattr(part, "content", None)
        if type(part) not in _TEXTS or type(content) is not str:
            return _encoded(message, lambda text: count(text.decode("utf-8", "replace")))
        tokens += count(content) + PART_TOKENS
    return tokens


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _encoded(message: Any, measure: Callable[[bytes], int]) -> int:
    files = 0
    texts = 0
    for part in message.parts:
        content = getattr(part, "content", None)
        if isinstance(content, list):
            for item in cast("list[Any]", content):
                if isinstance(item, BinaryContent | FileUrl):
                    files += 1
                else:
                    texts += measure(str(item).encode()) + PART_BYTES
        elif isinstance(content, BinaryContent | FileUrl):
            files += 1
    if files:
        return files * FILE_TOKENS + texts + 200
    try:
        return measure(encode_message(message))
    except (ValueError, TypeError):
        return measure(repr(message).encode())


def _tools_bytes(params: Any) -> int:
    known = _sizes.get(id(params))
    if known is not None and known[0] is params:
        return known[1]
    size = len(msgspec.json.encode(params, enc_hook=repr))
    _keep(id(params), params, size)
    return size


def _tools_tokens(params: Any, count: CountTokens) -> int:
    known = _sizes.get((id(params), count))
    if known is not None and known[0] is params:
        return known[1]
    tokens = count(msgspec.json.encode(params, enc_hook=repr).decode("utf-8", "replace"))
    _keep((id(params), count), params, tokens)
    return tokens


def _keep(key: Any, params: Any, size: int) -> None:
    if len(_sizes) > _SIZES:
        _sizes.clear()
    _sizes[key] = (params, size)


_SIZES = 64
_sizes: dict[Any, tuple[Any, int]] = {}
"""Sizes of the last parameters: those of an agent with constant tools are one object."""
