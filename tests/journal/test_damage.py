"""What is wrong with the file, the directory or the disk: said clearly, and gone on from. SQLite and processes for real."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from pathlib import Path

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import JournalError
from runmgr.journal import open_journal, open_journal_writer
from runmgr.journal.holders import command_line
from runmgr.journal.upkeep import salvage
from runmgr.supervisor import open_supervisor


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


async def fill(path, count):
    """Run so many prompts; give the ids of those that were told as succeeded."""
    told = []
    async with open_supervisor(journal=path, resume=True, max_running=10) as sup:
        async with sup.map(Agent("sim:"), (f"prompt {number}" for number in range(count))) as outcomes:
            told += [outcome.run_id async for outcome in outcomes if outcome.succeeded]
    return told


async def test_another_program_that_holds_a_lock_is_named(path):
    await fill(path, 3)
    program = """
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    ) as child:
        try:
            assert child.stdout.readline() == b"locked\n"
            async with open_journal_writer(path) as writer:
                writer.connection.execute("PRAGMA busy_timeout = 50")
                with pytest.raises(
                    JournalError, match=rf"process {child.pid} \(python\S* -c\) holds a lock on it; close it"
                ):
                    writer.set_meta("x", 1)
                    await writer.committed()
        finally:
            child.kill()
    await fill(path, 4)  # the lock is gone, and it goes on


def test_a_command_is_named_without_its_options():
    assert command_line(["/usr/bin/python3", "-m", "runmgr", "batch", "in.jsonl", "--api-key", "secret"]) == (
        "python3 -m runmgr batch in.jsonl"
    )
    assert command_line(["python", "-c", "print('secret')"]) == "python -c"
    assert command_line([]) == ""


def test_a_read_only_directory_is_said_and_can_be_read(path):
    """For real: without the rights of whoever runs the tests, which may be root's."""
    directory = Path(tempfile.mkdtemp())
    journal = directory / "journal.sqlite"
    program = """
        import os, sys, trio
        from runmgr.agent import Agent
        from runmgr.exceptions import JournalError
        from runmgr.journal import open_journal, open_journal_writer
        from runmgr.supervisor import open_supervisor
        import runmgr.journal.reader, runmgr.journal.writer
        if not os.geteuid():
            os.setuid(65534)
        async def main():
            try:
                async with open_supervisor(journal=sys.argv[1], resume=True):
                    print("opened")
            except JournalError as error:
                print(error)
        trio.run(main)
        with open_journal(sys.argv[1]) as journal:
            print(journal.counts())
    """
    try:
        trio.run(fill, journal, 3)
        directory.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(journal)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        refused, counts = done.stdout.splitlines()
        assert refused == (
            f"{journal}: cannot open the journal: Permission denied; is {directory} an existing, writable directory?"
        )
        assert counts == "{'succeeded': 3, 'open': 0}"
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


async def test_a_missing_directory_is_said(path):
    with pytest.raises(JournalError, match="an existing, writable directory"):
        async with open_supervisor(journal=path.parent / "nowhere" / "journal.sqlite"):
            pass


@pytest.mark.parametrize("pages", [40, 60])
async def test_a_full_disk_ends_the_program_with_a_clear_error_and_it_goes_on_when_there_is_room(
    path, autojump_clock, pages
):
    told = []
    with pytest.raises(JournalError, match="the disk is full; make room, then resume"):  # noqa: PT012
        async with open_supervisor(journal=path, max_running=10) as sup:
            sup.journal.connection.execute(f"PRAGMA max_page_count = {pages}")
            async with sup.map(Agent("sim:"), (f"prompt {number}" for number in range(500))) as outcomes:
                async for outcome in outcomes:
                    told += [outcome.run_id] if outcome.succeeded else []
    assert told
    with open_journal(path) as journal:
        assert all(journal.finished(run_id) for run_id in told)
    again = await fill(path, 500)
    assert len(set(again)) == 500
    assert set(told) <= set(again)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
async def test_a_damaged_journal_is_refused_by_name_and_saved(path, autojump_clock, damage):
    told = await fill(path, 300)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outcomes'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    if damage == "cut":
        os.truncate(path, path.stat().st_size * 2 // 3)
    else:
        with path.open("r+b") as file:
            file.seek((root - 1) * size)
            file.write(bytes(size))
    with pytest.raises(JournalError, match=r"is damaged .*python -m runmgr.journal salvage"):
        await fill(path, 300)
    saved = path.with_name("saved.sqlite")
    done = subprocess.run(
        [sys.executable, "-m", "runmgr.journal", "salvage", str(path), str(saved)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "lost: outcomes" in done.stdout, done
    assert sorted(await fill(saved, 300)) == sorted(told)


async def test_what_lies_beside_a_damaged_row_is_named_too(path, autojump_clock):
    """A page of which a part is gone may hold rows that SQLite no longer sees, and says nothing of."""
    await fill(path, 12)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE outcomes SET body = X'FF' WHERE run = 5")
        connection.execute("DELETE FROM outcomes WHERE run IN (6, 7)")
        ids = dict(connection.execute("SELECT run, run_id FROM runs").fetchall())
    saved = salvage(path, path.with_name("saved.sqlite"))
    assert saved.finished == 9
    assert set(saved.reopened) == {ids[run] for run in (5, 6, 7)}
    assert saved.lost == ("outcomes: run number 5: it is damaged",)


async def test_a_row_whose_body_is_gone_is_damage_too(path, autojump_clock):
    async with open_journal_writer(path, threaded=False) as writer:
        writer.admitted("a", 0, "", None, 1.0, b'"q"', None)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE checkpoints")
        connection.execute("CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, body)")
        connection.execute("INSERT INTO checkpoints VALUES (1 << 20, NULL)")
    with (
        open_journal(path) as journal,
        pytest.raises(JournalError, match="what it holds of run a is damaged"),
    ):
        list(journal.unfinished())
