"""The journal: every run's state and outcome in one SQLite file that survives the process."""

from .codec import Restored
from .reader import JournalReader, open_journal
from .upkeep import Salvaged, compact, salvage
from .writer import JournalWriter, open_journal_writer

__all__ = (
    "JournalReader",
    "JournalWriter",
    "Restored",
    "Salvaged",
    "compact",
    "open_journal",
    "open_journal_writer",
    "salvage",
)
