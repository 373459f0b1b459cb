"""Which results a page shows: all of few, a sample of many, found without reading the whole file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from runmgr.report.lines import ResultLine, decode_line, open_lines, read_lines

__all__ = ("MOST_CASES", "sample")

MOST_CASES = 2000
_SMALL_FILE = 64 * 1024 * 1024


def sample(
    path: Path, failures: Sequence[ResultLine] = (), *, most: int = MOST_CASES
) -> tuple[list[ResultLine], bool]:
    """At most so many results by index and epoch, and whether they are all.

    A large file is looked into at even distances in bytes, so its longer lines are a little more likely to be seen.

    Args:
        path: a results file.
        failures: results to show in any case.
        most: how many.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return [], True
    found: dict[str, ResultLine] = {}
    whole = True
    if size <= _SMALL_FILE:
        for line in read_lines(path):
            if len(found) > most:
                whole = False
                break
            found[line.run_id] = line
        whole = whole and len(found) <= most
    else:
        whole = False
    if not whole:
        found = {line.run_id: line for line in failures[: most // 2]}
        for line in _spread(path, size, most - len(found)):
            found.setdefault(line.run_id, line)
    return sorted(found.values(), key=lambda line: (line.index, line.epoch)), whole


def _spread(path: Path, size: int, count: int) -> list[ResultLine]:
    lines: list[ResultLine] = []
    with open_lines(path) as file:
        last = -1
        for number in range(count):
            file.seek(size * number // count, os.SEEK_SET)
            if number:
                file.readline()  # the rest of the line that was hit
            at = file.tell()
            if at != last and (line := decode_line(file.readline())):
                lines.append(line)
            last = at
    return lines
