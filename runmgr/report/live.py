"""A batch's results while they are written: indexed as they come, filtered, sorted and paged in constant memory.

The index is a temporary SQLite file that goes with the object; what a page shows is read from the results file again, by its place there.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from runmgr.exceptions import JournalError, UserError
from runmgr.journal import open_journal
from runmgr.report.batch_file import read_batch_file
from runmgr.report.lines import ResultLine, decode_line
from runmgr.report.page import figures
from runmgr.report.summary import Tally, read_summary
from runmgr.report.transcript import as_text, entries

__all__ = ("LiveResults",)

_FOUND_CHARS = 400
_MOST_ROWS = 200
_CHUNK_LINES = 20_000
_SHOWN_CHARS = 240

_INDEXES = (
    "lines_by_index ON lines (idx, epoch, at)",
    "scores_by_line ON scores (at, name, value)",
    "scores_upwards ON scores (name, value, at)",
    "scores_downwards ON scores (name, value DESC, at)",
    "lines_by_status ON lines (status, idx, epoch, at)",
    "lines_by_seconds ON lines (seconds, idx, epoch, at)",
    "lines_by_run ON lines (run_id)",
)

_RIGHT, _WRONG = (
    f"EXISTS (SELECT 1 FROM scores s WHERE s.at = lines.at AND s.name = ? AND s.value {way})"  # noqa: S608
    for way in (">= 1", "< 1")
)

_SORTS = {
    "index": "idx",
    "status": "status",
    "seconds": "seconds",
    "tokens_in": "tokens_in",
    "tokens_out": "tokens_out",
    "cost": "cost",
    "ended": "at",
}


P = ParamSpec("P")
T = TypeVar("T")


def _one_at_a_time(
    method: Callable[Concatenate[LiveResults, P], T],
) -> Callable[Concatenate[LiveResults, P], T]:
    @wraps(method)
    def locked(self: LiveResults, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class LiveResults:
    """The results of a batch's directory; a context manager. Every method blocks; any thread may call them.

    Args:
        directory: the batch's.
        journal: the journal's file; None is the one in the directory.

    Raises:
        UserError: there is no batch there.
    """

    def __init__(self, directory: Path, journal: Path | None = None) -> None:
        self.directory = directory
        self.journal = directory / "journal.sqlite" if journal is None else journal
        self._results = directory / "results.jsonl"
        if not (self._results.exists() or self.journal.exists()):
            raise UserError(
                f"{directory}: no batch there; name the directory that a batch writes (its --out)"
            )
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", check_same_thread=False)  # a temporary file, not memory
        self._database.executescript("PRAGMA journal_mode = OFF; PRAGMA cache_size = -32000")
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the index back."""
        self._database.close()

    def _begin(self) -> None:
        self._database.executescript(
            "DROP TABLE IF EXISTS lines; DROP TABLE IF EXISTS scores; DROP TABLE IF EXISTS texts;"
            "CREATE TABLE lines (at INTEGER PRIMARY KEY, idx INTEGER, epoch INTEGER, run_id TEXT, status TEXT, seconds REAL,"
            " tokens_in INTEGER, tokens_out INTEGER, cost REAL, variant TEXT);"
            # apart, so that what filters and sorts does not have to read it
            "CREATE TABLE texts (at INTEGER PRIMARY KEY, found TEXT);"
            "CREATE TABLE scores (name TEXT, value REAL, at INTEGER); DROP TABLE IF EXISTS matches;"
            "CREATE TABLE matches (at INTEGER PRIMARY KEY)"
        )
        self._indexes = list(_INDEXES)
        """Those that are still to be made."""
        self._matched: tuple[str, int] | None = None
        self._read_to = 0
        self._file_id: tuple[int, int] | None = None
        self.version = getattr(self, "version", 0) + 1
        batch = read_batch_file(self.directory)
        self.tally = Tally(epochs=batch.epochs, variants=batch.labels)

    @_one_at_a_time
    def update(self) -> bool:
        """Reads what came since, at most 20,000 lines; True where there may be more. A file that was written anew is read anew."""
        try:
            stat = self._results.stat()
        except FileNotFoundError:
            return False
        identity = (stat.st_dev, stat.st_ino)
        if (self._file_id not in {None, identity}) or stat.st_size < self._read_to:
            self._begin()
        self._file_id = identity
        if stat.st_size == self._read_to:
            return self._index()
        rows: list[tuple[Any, ...]] = []
        texts: list[tuple[int, str]] = []
        scores: list[tuple[str, float, int]] = []
        with self._results.open("rb") as file:
            file.seek(self._read_to)
            while len(rows) < _CHUNK_LINES:
                at = file.tell()
                data = file.readline()
                if not data.endswith(b"\n"):
                    break  # the rest of it is still to be written
                self._read_to = file.tell()
                line = decode_line(data)
                if line is not None:
                    self.tally.add(line)
                    rows.append(_row(at, line))
                    texts.append((at, _found(line)))
                    scores += [(name, value, at) for name, value in line.scores.items() if value is not None]
        if not rows:
            return self._index()
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO lines VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
            self._database.executemany("INSERT OR REPLACE INTO texts VALUES (?,?)", texts)
            self._database.executemany("INSERT INTO scores VALUES (?,?,?)", scores)
        self.version += 1
        return len(rows) == _CHUNK_LINES or self._index()

    def _index(self) -> bool:
        """Makes one index; True where there are more to make.

        Made once all that there was has been read, they cost a fraction of what they cost with each row; one at a time, pages are served
        in between.
        """
        if not self._indexes:
            return False
        self._database.execute("CREATE INDEX " + self._indexes.pop(0))
        if not self._indexes:
            self.version += 1
        return bool(self._indexes)

    @property
    def reading(self) -> float | None:
        """What part of the results has been read; None once all has."""
        if not self._indexes:
            return None
        try:
            size = self._results.stat().st_size
        except FileNotFoundError:
            return None
        return round(self._read_to / size, 3) if size else None

    @_one_at_a_time
    def summary(self) -> dict[str, Any]:
        """The figures so far, and whether the batch has ended."""
        batch = read_batch_file(self.directory)  # again: who resumes it writes it anew
        written = read_summary(self.directory / "summary.json", ended=self.tally.ended)
        unfinished = self._open_runs() if written is None and batch.runs is None else 0
        summary = written or self.tally.summary_so_far(batch.runs or self.tally.ended + unfinished)
        ended = written is not None
        data: dict[str, Any] = json.loads(summary.to_json())
        data["status"] = data["status"] if ended else "running"
        data["version"] = self.version
        data["total"] = batch.runs
        data["reading"] = self.reading
        data["epochs"] = batch.epochs
        data["facts"] = batch.facts
        data["figures"] = figures(summary, self.tally)
        return data

    def _open_runs(self) -> int:
        """Runs that the journal knows and that have not ended."""
        try:
            with open_journal(self.journal) as reader:
                return reader.counts()["open"]
        except JournalError:
            return 0

    @_one_at_a_time
    def cases(
        self,
        *,
        offset: int = 0,
        limit: int = 50,
        sort: str = "index",
        down: bool = False,
        status: str = "",
        scorer: str = "",
        right: bool | None = None,
        find: str = "",
        variant: str = "",
    ) -> dict[str, Any]:
        """A page of results.

        Args:
            offset: leaves out the first so many.
            limit: at most so many, 200 at the most.
            sort: a column: index, status, seconds, tokens_in, tokens_out, cost, ended, or ``score NAME``.
            down: from the largest on.
            status: only these.
            scorer: with ``right``: only those that scored 1 there, or less.
            right: see there.
            find: a text in the first 400 characters of input, output or error, in any case.
            variant: only this combination of a matrix.
        """
        where, values = list[str](), list[Any]()
        if status:
            where.append("status = ?")
            values.append(status)
        if variant:
            where.append("variant = ?")
            values.append(variant)
        if scorer and right is not None:
            where.append(_RIGHT if right else _WRONG)
            values.append(scorer)
        if find:
            self._match(find.casefold())
            where.append("at IN (SELECT at FROM matches)")
        condition = " AND ".join(where) or "1"
        count = self._count(condition, values)
        limit, offset, way = max(1, min(limit, _MOST_ROWS)), max(0, offset), "DESC" if down else "ASC"
        if sort.startswith("score "):
            places = self._by_score(sort.removeprefix("score "), way, condition, values, limit, offset)
        else:
            # the columns behind go the same way, so that an index has them all
            by = _SORTS.get(sort, "idx")
            behind = f"idx {way}, epoch {way}, at {way}" if by != "idx" else f"epoch {way}, at {way}"
            places = self._database.execute(
                f"SELECT at FROM lines WHERE {condition} ORDER BY {by} {way}, {behind} LIMIT ? OFFSET ?",  # noqa: S608
                [*values, limit, offset],
            ).fetchall()
        rows: list[dict[str, Any]] = []
        if places:
            with self._results.open("rb") as file:
                rows = [_shown(line) for (at,) in places if (line := self._line(file, at)) is not None]
        return {"count": count, "version": self.version, "cases": rows}

    def _count(self, condition: str, values: list[Any]) -> int:
        """How many lines there are of a condition. Of a score alone, an index of scores knows: lines would be asked one by one."""
        for way, alone in ((">= 1", _RIGHT), ("< 1", _WRONG)):
            if condition == alone:
                query = f"SELECT count(*) FROM scores WHERE name = ? AND value {way}"  # noqa: S608  only our own words
                break
        else:
            query = f"SELECT count(*) FROM lines WHERE {condition}"  # noqa: S608
        count: int = self._database.execute(query, values).fetchone()[0]
        return count

    def _match(self, word: str) -> None:
        """Finds the word in all texts: read once, however often the table is turned over or sorted."""
        wanted = (word, self._read_to)
        if self._matched != wanted:
            self._database.execute("DELETE FROM matches")
            self._database.execute(
                "INSERT INTO matches SELECT at FROM texts WHERE instr(found, ?) > 0", (word,)
            )
            self._matched = wanted

    def _by_score(
        self, scorer: str, way: str, condition: str, values: list[Any], limit: int, offset: int
    ) -> list[Any]:
        """Places by a score, those without one last."""
        scored = f"FROM scores JOIN lines USING (at) WHERE scores.name = ? AND {condition}"
        execute = self._database.execute
        places = execute(
            f"SELECT scores.at {scored} ORDER BY scores.value {way}, scores.at LIMIT ? OFFSET ?",
            [scorer, *values, limit, offset],
        ).fetchall()
        if len(places) < limit:
            count = execute(f"SELECT count(*) {scored}", [scorer, *values]).fetchone()[0]
            places += execute(
                f"SELECT at FROM lines WHERE {condition} AND NOT EXISTS "  # noqa: S608
                "(SELECT 1 FROM scores s WHERE s.at = lines.at AND s.name = ?) ORDER BY idx, epoch, at LIMIT ? OFFSET ?",
                [*values, scorer, limit - len(places), max(0, offset - count)],
            ).fetchall()
        return places

    def _line(self, file: Any, at: int) -> ResultLine | None:
        file.seek(at)
        return decode_line(file.readline())

    @_one_at_a_time
    def run(self, run_id: str) -> dict[str, Any] | None:
        """One run whole, with its transcript as far as the journal has it; None where it is not known."""
        found = self._database.execute("SELECT max(at) FROM lines WHERE run_id = ?", (run_id,)).fetchone()[0]
        said: list[dict[str, Any]] = []
        line: ResultLine | None = None
        if found is not None:
            with self._results.open("rb") as file:
                line = self._line(file, found)
        try:
            with open_journal(self.journal) as reader:
                outcome = reader.outcome(run_id)
        except JournalError:
            outcome = None
        if outcome is not None and outcome.messages:
            said = [
                {"kind": e.kind, "text": e.text, "name": e.name, "note": e.note}
                for e in entries(outcome.messages)
            ]
        elif line is not None:
            said = [{"kind": "user", "text": as_text(line.input), "name": "", "note": ""}]
            if line.output is not None:
                said.append({"kind": "text", "text": as_text(line.output), "name": "", "note": ""})
        if line is None:
            return None
        return {**_shown(line, whole=True), "transcript": said}


def _row(at: int, line: ResultLine) -> tuple[Any, ...]:
    seconds = (
        None if line.started_at is None or line.finished_at is None else line.finished_at - line.started_at
    )
    return (
        at,
        line.index,
        line.epoch,
        line.run_id,
        line.status,
        seconds,
        line.usage.get("input_tokens", 0),
        line.usage.get("output_tokens", 0),
        None if line.cost is None else float(line.cost),
        line.variant or "",
    )


def _found(line: ResultLine) -> str:
    """What a search looks into."""
    error = "" if line.error is None else f"{line.error.get('type')} {line.error.get('message')}"
    found = "\n".join(
        text[:_FOUND_CHARS] for text in (as_text(line.input), as_text(line.output), error, line.run_id)
    )
    return found.casefold().encode(errors="replace").decode()


def _shown(line: ResultLine, *, whole: bool = False) -> dict[str, Any]:
    def text(value: Any) -> str:
        said = as_text(value)
        return said if whole or len(said) <= _SHOWN_CHARS else said[:_SHOWN_CHARS] + " …"

    return {
        "index": line.index,
        "epoch": line.epoch,
        "run_id": line.run_id,
        "status": line.status,
        "scores": line.scores,
        "seconds": None
        if line.started_at is None or line.finished_at is None
        else round(max(line.finished_at - line.started_at, 0.0), 4),
        "tokens_in": line.usage.get("input_tokens", 0),
        "tokens_out": line.usage.get("output_tokens", 0),
        "cost": None if line.cost is None else float(line.cost),
        "input": text(line.input),
        "output": text(line.output),
        "error": None
        if line.error is None
        else {"type": str(line.error.get("type")), "message": text(line.error.get("message"))},
        "model": line.model,
        "variant": line.variant or None,
        "attempts": line.attempts,
    }
