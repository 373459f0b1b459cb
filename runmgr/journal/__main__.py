"""``python -m runmgr.journal compact FILE``, ``python -m runmgr.journal salvage FILE NEW``."""

import sys

from runmgr.exceptions import JournalError
from runmgr.journal.upkeep import compact, salvage

USAGE = "usage: python -m runmgr.journal compact FILE | salvage FILE NEW"


def main(words: list[str]) -> int:
    """0 done; 1 it could not be, or something was lost; 2 wrong arguments."""
    try:
        match words:
            case ["compact", path]:
                before, after = compact(path)
                sys.stdout.write(f"{path}: {before:,} bytes, now {after:,}\n")
            case ["salvage", path, new]:
                saved = salvage(path, new)
                sys.stdout.write(f"{new}: {saved.runs} runs, {saved.finished} of them finished\n")
                for what in saved.lost:
                    sys.stdout.write(f"lost: {what}\n")
                for run_id in saved.reopened:
                    sys.stdout.write(f"open again: {run_id}\n")
                return bool(saved.lost)
            case _:
                sys.stderr.write(f"{USAGE}\n")
                return 2
    except JournalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
