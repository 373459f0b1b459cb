"""Which run is which: by content, so that a changed file resumes right.

A run's id is a hash of the batch's fingerprint (model, agent, instructions, settings), its prompt and target, its occurrence number
among equal cases before it, and its epoch. Lines added, removed or moved leave the other ids as they were; a thousand
equal lines are a thousand runs. Ids are 64 bits: two of a million runs share one with a probability of 3 in 100 million.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from runmgr.journal.tables import HashTable

__all__ = ("Identity", "fingerprint", "id_key")


def fingerprint(values: dict[str, Any]) -> str:
    """A digest of plain values: what makes two batches the same."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def id_key(run_id: str) -> int:
    """The run id as a key of a ``HashTable``."""
    return int(run_id, 16)


class Identity:
    """Gives run ids to cases in the order in which they are read; 17 bytes of memory a case.

    Args:
        batch: the batch's fingerprint.
        expected: how many cases to make room for.
    """

    __slots__ = ("_key", "_seen")

    def __init__(self, batch: str, expected: int = 1000) -> None:
        self._key = bytes.fromhex(batch)
        self._seen = HashTable(expected)

    def next_case(self, prompt: str, target: Any) -> bytes:
        """The digest of the next case: of its content and of how many equal ones came before."""
        content = (
            prompt
            if target is None
            else f"{prompt}\0{target if isinstance(target, str) else json.dumps(target, sort_keys=True)}"
        )
        digest = hashlib.blake2b(
            content.encode(errors="surrogatepass"), digest_size=16, key=self._key
        ).digest()
        before = self._seen.count(int.from_bytes(digest[:8], "little"))
        return digest + before.to_bytes(4, "little") if before else digest

    def run_id(self, case: bytes, epoch: int) -> str:
        """The id of one epoch (from 1) of a case: 16 hexadecimal digits."""
        return hashlib.blake2b(case + epoch.to_bytes(4, "little"), digest_size=8, key=self._key).hexdigest()

    def close(self) -> None:
        """Gives the memory back."""
        self._seen.close()
