"""A compact table from 64-bit hashes to small integers: 12 bytes a slot, outside Python's object heap."""

from __future__ import annotations

import mmap

__all__ = ("HashTable",)

_KEY_BYTES = 8
_VALUE_BYTES = 4
_FULL = 0.7


class HashTable:
    """Open addressing with linear probing in two anonymous memory maps.

    A dict of a million integers takes about 100 MB; this takes 17, given that its size is told beforehand, and gives the memory back to
    the system when it grows or is closed. Keys are hashes already: equal low bits are as rare as they should be.

    Args:
        expected: how many keys to make room for; it grows (by two) beyond that.
    """

    __slots__ = ("_keys", "_keys_map", "_room", "_slots", "_values", "_values_map", "used")

    def __init__(self, expected: int = 1000) -> None:
        self.used = 0
        self._allocate(max(64, int(expected / _FULL) + 1))

    def _allocate(self, slots: int) -> None:
        self._slots = slots
        self._room = int(slots * _FULL) + 1
        self._keys_map = mmap.mmap(-1, slots * _KEY_BYTES)
        self._values_map = mmap.mmap(-1, slots * _VALUE_BYTES)
        self._keys = memoryview(self._keys_map).cast("Q")
        self._values = memoryview(self._values_map).cast("I")

    def __len__(self) -> int:
        return self.used

    def get(self, key: int) -> int | None:
        """The key's value, or None."""
        keys, slots = self._keys, self._slots
        key = key or 1  # an empty slot is 0
        at = key % slots
        while found := keys[at]:
            if found == key:
                return self._values[at]
            at = at + 1 if at + 1 < slots else 0
        return None

    def set(self, key: int, value: int) -> None:
        """Stores a value from 0 to 2**32 - 1."""
        key = key or 1
        at = self._find(key)
        self._values[at] = value

    def count(self, key: int) -> int:
        """How often this has been called with the key before."""
        key = key or 1
        keys = self._keys
        at = key % self._slots
        found = keys[at]
        if not found and self.used < self._room:  # as `_find` does, without the call: mostly it is new
            keys[at] = key
            self.used += 1
            self._values[at] = 1
            return 0
        if found != key:
            at = self._find(key)
        values = self._values
        before = values[at]
        values[at] = before + 1
        return before

    def _find(self, key: int) -> int:
        """The key's slot, taken if it was not there."""
        keys, slots = self._keys, self._slots
        at = key % slots
        while found := keys[at]:
            if found == key:
                return at
            at = at + 1 if at + 1 < slots else 0
        if self.used >= self._room:
            self._grow()
            return self._find(key)
        keys[at] = key
        self.used += 1
        return at

    def _grow(self) -> None:
        old_keys, old_values, old_maps = self._keys, self._values, (self._keys_map, self._values_map)
        self._allocate(self._slots * 2)
        self.used = 0
        for at, key in enumerate(old_keys):
            if key:
                self._values[self._find(key)] = old_values[at]
        old_keys.release()
        old_values.release()
        for each in old_maps:
            each.close()

    def close(self) -> None:
        """Gives the memory back; the table cannot be used afterwards."""
        self._keys.release()
        self._values.release()
        self._keys_map.close()
        self._values_map.close()
