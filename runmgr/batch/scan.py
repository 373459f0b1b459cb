"""Reading cases, and reading all of them once before anything is sent."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

import attrs
import trio

from runmgr.batch.cases import Case, CaseReader
from runmgr.batch.identity import Identity, id_key
from runmgr.batch.inputs import FileSource, FilesSource, RowsSource, StdinSource
from runmgr.exceptions import InputError
from runmgr.journal.tables import HashTable

__all__ = ("Scan", "Selection", "cases_of_file", "cases_of_stdin", "scan")

_ROWS_BETWEEN_CHECKPOINTS = 250
_LEFT_OUT = "--where, --offset leave out every row"


@attrs.frozen
class Scan:
    """What a whole reading found.

    Args:
        cases: how many there are, within the limit.
        ids: each run's id and twice its case's index; only where a batch is resumed.
    """

    cases: int
    ids: HashTable | None


@attrs.define
class Selection:
    """Which of the rows that ``where`` takes are cases.

    Args:
        offset: leaves out the first so many.
        limit: then only so many.
        sample: of these only so many, drawn.
        seed: of the draw.
    """

    offset: int = 0
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    _chosen: frozenset[int] | None = None

    @property
    def end(self) -> float:
        """The first position beyond."""
        return float("inf") if self.limit is None else self.offset + self.limit

    async def draw(self, source: FileSource | FilesSource | RowsSource, reader: CaseReader) -> None:
        """Draws the sample: counts the rows, and remembers the drawn positions. Where there are no more than that, all are drawn.

        Raises:
            InputError: a row is wrong; names the line.
        """
        if self.sample is None or self._chosen is not None:
            return
        found = 0
        for row, fields in source.rows():
            if found >= self.end:
                break
            found += reader.wanted(row, fields)
            if found % _ROWS_BETWEEN_CHECKPOINTS == 0:
                await trio.lowlevel.checkpoint()
        positions = range(self.offset, found)
        if len(positions) > self.sample:
            self._chosen = frozenset(random.Random(self.seed).sample(positions, self.sample))
        else:
            self._chosen = frozenset(positions)

    def takes(self, position: int) -> bool:
        """Whether the row at this position among those that ``where`` takes is a case."""
        return position >= self.offset and (self._chosen is None or position in self._chosen)


def cases_of_file(
    source: FileSource | FilesSource | RowsSource, reader: CaseReader, selection: Selection
) -> Iterator[Case]:
    """Cases in the order of the input; blocks on the disk.

    Raises:
        InputError: a row is wrong; names the line.
    """
    position = 0
    for index, (row, fields) in enumerate(source.rows()):
        if reader.wanted(row, fields):
            if selection.takes(position):
                yield reader.read(row, fields, index)
            position += 1
            if position >= selection.end:
                return


async def cases_of_stdin(
    source: StdinSource, reader: CaseReader, selection: Selection
) -> AsyncGenerator[Case]:
    """Cases as they arrive.

    Raises:
        InputError: a row is wrong; names the line. Or it ended, and there was no case.
    """
    position = index = 0
    some = False
    async for row, fields in source.rows():
        if reader.wanted(row, fields):
            if selection.takes(position):
                some = True
                yield reader.read(row, fields, index)
            position += 1
            if position >= selection.end:
                break
        index += 1
    if not some:
        raise source.error(f"there are no cases in it: {_LEFT_OUT if index else 'nothing came'}")


async def scan(
    source: FileSource | FilesSource | RowsSource,
    reader: CaseReader,
    selection: Selection,
    *,
    epochs: int,
    identities: Sequence[Identity],
    progress: Callable[[int], None],
) -> Scan:
    """Reads the input whole (within the limit), to find what is wrong with it. Constant memory but for ``identities``'.

    Args:
        source: the file.
        reader: makes the cases.
        selection: which rows are cases; a sample is drawn now.
        epochs: runs a case and identity.
        identities: give the run ids, to be kept, one a combination of the matrix; none keeps none.
        progress: told the count now and then.

    Raises:
        InputError: a row is wrong, or there are none.
    """
    await selection.draw(source, reader)
    cases = 0
    ids = HashTable() if identities else None
    for case in cases_of_file(source, reader, selection):
        if cases % _ROWS_BETWEEN_CHECKPOINTS == 0:
            progress(cases)
            await trio.lowlevel.checkpoint()
        if ids is not None:
            for identity in identities:
                digest = identity.next_case(case.content, case.target)
                for epoch in range(1, epochs + 1):
                    ids.set(id_key(identity.run_id(digest, epoch)), case.index << 1)
        cases += 1
    progress(cases)
    if not cases:
        why = "the file is empty" if next(iter(source.rows()), None) is None else _LEFT_OUT
        raise InputError(f"there are no cases in it: {why}", source=source.name)
    return Scan(cases, ids)
