"""Who holds a file: for errors that name the process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ("command_line", "holder")


def command_line(arguments: Sequence[str]) -> str:
    """What a person looks for in a list of processes: the program and its first arguments; no options, which may hold a key."""
    words = [Path(arguments[0]).name] if arguments else []
    for word in arguments[1:6]:
        if word.startswith("--") or "\n" in word:
            break
        words.append(word)
        if word == "-c":  # what follows is a program
            break
    return " ".join(words)[:200]


def holder(path: Path) -> str | None:
    """The process that holds a lock on an SQLite file or on what belongs to it, in words; None where the system does not tell.

    Source of the format: proc(5), ``/proc/locks``: kind, strictness, type, process, device and inode.
    """
    inodes: set[str] = set()
    for suffix in ("", "-shm", "-wal"):
        try:
            found = path.with_name(path.name + suffix).stat()
        except OSError:
            continue
        inodes.add(f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}")
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) < 6 or words[1] == "->" or words[5] not in inodes or not words[4].isdigit():
            continue
        process = int(words[4])
        if process == os.getpid():
            continue
        try:
            data = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            data = b""
        command = command_line([word.decode(errors="replace") for word in data.split(b"\0") if word])
        return f"process {process}" + (f" ({command})" if command else "")
    return None
