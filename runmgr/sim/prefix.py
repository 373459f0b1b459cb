"""A cache of prompt prefixes, as engines keep them: by blocks of equal length, each known by its own tokens and all before it.

Source: vLLM documentation, "Automatic Prefix Caching" (a block's hash is of its tokens and the block before it; the least recently used
block goes first; of a prompt that is cached whole at least one token is computed again).
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ("PrefixCache",)


class PrefixCache:
    """Which prefixes are cached, in at most ``tokens`` of memory.

    Args:
        tokens: how many it holds; whole blocks of them.
        block: tokens a block.

    Attributes:
        asked: prompt tokens that were looked up.
        hits: of them, those found.
    """

    def __init__(self, tokens: int, block: int = 16) -> None:
        self._room = tokens // block
        self._block = block
        self._blocks: dict[int, None] = {}  # in order of use: the first is the next to go
        self.asked = 0
        self.hits = 0

    @property
    def used(self) -> float:
        """Share of its memory that holds something."""
        return len(self._blocks) / self._room if self._room else 0.0

    def look_up(self, words: Sequence[bytes]) -> int:
        """How many tokens at the beginning are cached: whole blocks, and never all of the prompt. Counts, and keeps them for longer."""
        blocks = self._blocks
        found = 0
        for key in self._keys(words):
            if key not in blocks:
                break
            del blocks[key]
            blocks[key] = None
            found += self._block
        if found >= len(words):
            found = max(0, (len(words) - 1) // self._block * self._block)
        self.asked += len(words)
        self.hits += found
        return found

    def add(self, words: Sequence[bytes]) -> None:
        """Keep a prompt's whole blocks."""
        blocks = self._blocks
        # The last first: of one prompt the end is the first to go, for without its beginning it is of no use.
        for key in reversed(self._keys(words)):
            blocks.pop(key, None)
            blocks[key] = None
        while len(blocks) > self._room:
            del blocks[next(iter(blocks))]

    def _keys(self, words: Sequence[bytes]) -> list[int]:
        block = self._block
        keys: list[int] = []
        before = 0
        for start in range(0, len(words) - block + 1, block):
            before = hash((before, b" ".join(words[start : start + block])))
            keys.append(before)
        return keys
