"""Reading cases, and reading all of them once before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from itertools import islice

import attrs
import trio

from runmgr.batch.cases import Case, CaseReader
from runmgr.batch.identity import Identity, id_key
from runmgr.batch.inputs import FileSource, StdinSource
from runmgr.batch.tables import HashTable
from runmgr.exceptions import InputError

__all__ = ("Scan", "cases_of_file", "cases_of_stdin", "scan")

_ROWS_BETWEEN_CHECKPOINTS = 250


@attrs.frozen
class Scan:
    """What a whole reading found.

    Args:
        cases: how many there are, within the limit.
        ids: each run's id and twice its case's index; only where a batch is resumed.
    """

    cases: int
    ids: HashTable | None


def cases_of_file(source: FileSource, reader: CaseReader, limit: int | None) -> Iterator[Case]:
    """Cases in the order of the file; blocks on the disk.

    Raises:
        InputError: a row is wrong; names the line.
    """
    for row, fields in islice(source.rows(), limit):
        yield reader.read(row, fields)


async def cases_of_stdin(source: StdinSource, reader: CaseReader, limit: int | None) -> AsyncGenerator[Case]:
    """Cases as they arrive.

    Raises:
        InputError: a row is wrong; names the line.
    """
    number = 0
    async for row, fields in source.rows():
        yield reader.read(row, fields)
        number += 1
        if number == limit:
            return


async def scan(
    source: FileSource,
    reader: CaseReader,
    *,
    limit: int | None,
    epochs: int,
    identity: Identity | None,
    progress: Callable[[int], None],
) -> Scan:
    """Reads the input whole (within the limit), to find what is wrong with it. Constant memory but for ``identity``'s.

    Args:
        source: the file.
        reader: makes the cases.
        limit: only so many.
        epochs: runs a case.
        identity: gives the run ids, to be kept; None keeps none.
        progress: told the count now and then.

    Raises:
        InputError: a row is wrong, or there are none.
    """
    cases = 0
    ids = None if identity is None else HashTable()
    for case in cases_of_file(source, reader, limit):
        if cases % _ROWS_BETWEEN_CHECKPOINTS == 0:
            progress(cases)
            await trio.lowlevel.checkpoint()
        if identity is not None and ids is not None:
            digest = identity.next_case(case.prompt, case.target)
            for epoch in range(1, epochs + 1):
                ids.set(id_key(identity.run_id(digest, epoch)), cases << 1)
        cases += 1
    progress(cases)
    if not cases:
        raise InputError("there are no cases in it: the file is empty", source=source.name)
    return Scan(cases, ids)
