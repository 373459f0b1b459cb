"""Words to make prompts of, and numbers to choose them by: a function of a seed and a place, so that processes can share a schedule."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from runmgr.models.sim_config import Distribution

__all__ = ("Lot", "Text", "draw", "mix", "uniform")

_WORDS = """
time year people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work government number night point home water room mother area money
story fact month lot right study book eye job word business issue side kind head house service friend father power hour
game line end member law car city community name president team minute idea kid body information back parent face others
level office door health person art war history party result change morning reason research girl guy moment air teacher
force education
""".split()  # noqa: SIM905  a list of them would be a page long
_POOL = 1 << 15
_MASK = (1 << 64) - 1


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


def mix(seed: int, index: int, what: int) -> int:
    """64 bits that depend on all three; splitmix64's finalizer (G. Steele, D. Lea, C. Flood, OOPSLA 2014)."""
    z = (seed * 0x9E3779B97F4A7C15 + index * 16 + what + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def draw(distribution: Distribution, seed: int, index: int, what: int) -> int:
    """A whole number from 1 up."""
    if distribution.shape == "constant":
        return max(1, round(distribution.a))
    return max(1, round(distribution.draw(uniform(seed, index, what))))


def uniform(seed: int, index: int, what: int) -> float:
    """A number from 0 to below 1."""
    return (mix(seed, index, what) >> 11) * 2.0**-53


class Lot:
    """Draws one of several by weight, the same for an index always.

    Args:
        weights: above zero.
        seed: of the draws.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        self._ends = list(accumulate(weights))
        self._seed = seed

    def of(self, index: int) -> int:
        """The number of the one that is drawn."""
        at = uniform(self._seed, index, 8) * self._ends[-1]
        return min(bisect_right(self._ends, at), len(self._ends) - 1)
