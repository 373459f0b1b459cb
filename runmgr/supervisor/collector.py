"""Fewer full garbage collections while supervisors are open.

A run in flight is some fifty objects that live for seconds. With 10,000 of them, Python's defaults look through all of them
again and again for garbage that is not there: measured in ``bench/tail.py``, 13 full collections take 3.9 of 5.9 seconds of CPU.
So while any supervisor is open the collector looks less often, at the old objects above all: at worst a million more cyclic
containers wait to be found. Reference counting, which frees nearly everything, goes on as ever.

Thresholds that the program has set itself are left alone, and what was there is put back when the last supervisor closes.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock

__all__ = ("fewer_collections",)

DEFAULTS = ((700, 10, 10), (2_000, 10, 10), (2_000, 10, 0))
"""What Python comes with: 3.11 and 3.12, 3.13, 3.14."""
THRESHOLDS = (1_000, 20, 50)

_lock = Lock()  # supervisors may be open in several threads at once
_open = 0
_before: tuple[int, int, int] | None = None


@contextmanager
def fewer_collections() -> Generator[None, None, None]:
    """Within the block, and those of others that overlap with it, the collector looks less often."""
    global _open, _before  # noqa: PLW0603  the collector is the process's
    with _lock:
        _open += 1
        if _open == 1 and sys.implementation.name == "cpython":
            found = gc.get_threshold()
            if found in DEFAULTS:
                _before = found
                gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if _open == 0 and _before is not None:
                if gc.get_threshold() == THRESHOLDS:
                    gc.set_threshold(*_before)
                _before = None
