"""A journal at rest and in ruins: made smaller, read without a trace, saved as far as it can be read."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import JournalError
from runmgr.journal import compact, open_journal, open_journal_writer, salvage
from runmgr.journal.__main__ import main
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.supervisor import RunSpec, open_supervisor

TEXT = "x" * 300


async def answer(messages, info):
    await trio.sleep(0.1)
    turn = len(messages) // 2
    if turn < 2:
        return ModelResponse(parts=[ToolCallPart("add", {"a": turn}, f"c{turn}")])
    return ModelResponse(parts=[TextPart(f"{messages[0].parts[0].content} {TEXT}")])


agent = Agent(FunctionModel(answer))


@agent.tool_plain(idempotent=True)
async def add(a: int) -> str:
    return TEXT


async def fill(path, count, stop=None):
    with trio.move_on_after(stop or 1e9):
        async with open_supervisor(journal=path, resume=True, max_running=20) as sup:
            async with sup.map(
                agent, (RunSpec(prompt=f"q{n}", run_id=f"q{n}") for n in range(count))
            ) as outcomes:
                async for _ in outcomes:
                    pass


def everything(path):
    with open_journal(path) as journal:
        return {outcome.run_id: outcome for outcome in journal.outcomes(messages=True)}, journal.counts()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


# -------------------------------------------------------------------- at rest


async def test_a_compacted_journal_says_the_same_and_is_smaller(path, autojump_clock):
    await fill(path, 50, stop=0.65)
    before = everything(path)
    assert before[1]["open"] > 0
    assert before[1]["succeeded"] > 0
    sizes = compact(path)
    assert sizes == (sizes[0], path.stat().st_size)
    assert everything(path) == before
    await fill(path, 50)  # and is gone on with
    outcomes, counts = everything(path)
    assert counts == {"succeeded": 50, "open": 0}
    assert all(len(outcome.messages) == 6 for outcome in outcomes.values())
    grown, small = compact(path)
    assert small < grown
    assert everything(path) == (outcomes, counts)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)
    connection.close()


async def test_a_journal_that_is_being_written_is_not_compacted(path):
    async with open_journal_writer(path):
        with pytest.raises(JournalError, match="being written by this process"):
            compact(path)
    with pytest.raises(JournalError, match="no such journal"):
        compact(path.with_name("missing"))


async def test_reading_leaves_nothing_behind(path, autojump_clock):
    await fill(path, 3)
    everything(path)
    assert list(path.parent.iterdir()) == [path]


# -------------------------------------------------------------------- in ruins


async def test_what_can_be_read_of_a_damaged_journal_is_kept_and_the_rest_named(path, autojump_clock, capsys):
    await fill(path, 200)
    whole, _ = everything(path)
    data = bytearray(path.read_bytes())
    for start in range(40 * 4096, len(data) - 4096, 60 * 4096):  # a page here and there
        data[start : start + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    new = path.with_name("new.sqlite")
    saved = salvage(path, new)
    assert 0 < saved.finished < 200
    assert saved.lost
    kept, counts = everything(new)
    assert counts["succeeded"] == saved.finished
    assert all(whole[run_id] == outcome for run_id, outcome in kept.items())
    await fill(new, 200)  # the others are run again
    outcomes, counts = everything(new)
    assert counts == {"succeeded": 200, "open": 0}
    assert {run_id: outcome.output for run_id, outcome in outcomes.items()} == {
        run_id: outcome.output for run_id, outcome in whole.items()
    }
    assert main(["salvage", str(path), str(path.with_name("third"))]) == 1
    assert "lost: " in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.3, 0.9])
async def test_a_truncated_journal(path, autojump_clock, share):
    await fill(path, 200)
    whole, _ = everything(path)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(JournalError, match=r"damaged .*python -m runmgr.journal salvage"):
        everything(path)
    new = path.with_name("new.sqlite")
    try:
        saved = salvage(path, new)
    except JournalError:
        assert share < 0.5  # the table of tables itself
        return
    assert saved.lost
    kept, _ = everything(new)
    assert all(whole[run_id] == outcome for run_id, outcome in kept.items())


def pages_of(path, name):
    """Page size, and the numbers of the pages of a table or an index."""
    with sqlite3.connect(path) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        todo = list(
            connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        )
    connection.close()
    data = path.read_bytes()
    pages = []
    while todo:
        page = todo.pop()
        pages.append(page)
        start = (page - 1) * size
        if data[start] in {2, 5}:  # an inner page: its children
            count = int.from_bytes(data[start + 3 : start + 5], "big")
            todo.append(int.from_bytes(data[start + 8 : start + 12], "big"))
            for cell in range(count):
                at = start + 12 + 2 * cell
                offset = start + int.from_bytes(data[at : at + 2], "big")
                todo.append(int.from_bytes(data[offset : offset + 4], "big"))
    return size, sorted(pages)


def overwrite(path, size, page):
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


INDEX = "sqlite_autoindex_checkpoints_1"


async def test_where_only_the_index_is_damaged_nothing_is_lost(path, autojump_clock):
    await fill(path, 200)
    whole = everything(path)
    size, pages = pages_of(path, INDEX)
    assert len(pages) > 1
    overwrite(path, size, pages[-1])
    with pytest.raises(JournalError, match="damaged"):
        everything(path)
    saved = salvage(path, path.with_name("new.sqlite"))
    assert saved.lost == ("the index of checkpoints is damaged; all were read without it",)
    assert (saved.finished, saved.reopened) == (200, ())
    assert everything(path.with_name("new.sqlite")) == whole


async def test_runs_of_a_damaged_page_of_checkpoints_are_begun_where_they_are_whole(path, autojump_clock):
    """Rows lie by time: a page holds those of many runs, and those runs alone are named."""
    await fill(path, 200)
    whole, _ = everything(path)
    size, pages = pages_of(path, "checkpoints")
    overwrite(path, size, pages[len(pages) // 2])
    saved = salvage(path, path.with_name("new.sqlite"))
    named = r"checkpoint \d+ of run number \d+"
    assert re.match(rf"checkpoints after {named} to {named}: ", saved.lost[0])
    assert 0 < len(saved.reopened) <= 30
    assert saved.finished == 200 - len(saved.reopened)
    kept, counts = everything(path.with_name("new.sqlite"))
    assert counts == {"succeeded": saved.finished, "open": len(saved.reopened)}
    assert all(whole[run_id] == outcome for run_id, outcome in kept.items())
    await fill(path.with_name("new.sqlite"), 200)
    assert everything(path.with_name("new.sqlite"))[1] == {"succeeded": 200, "open": 0}


async def test_runs_of_a_damaged_page_of_outcomes_are_open_and_no_others(path, autojump_clock):
    await fill(path, 200)
    size, pages = pages_of(path, "outcomes")
    overwrite(path, size, pages[len(pages) // 2])
    saved = salvage(path, path.with_name("new.sqlite"))
    assert re.match(r"outcomes after run number \d+ to run number \d+: ", saved.lost[0])
    assert 0 < saved.finished < 200
    kept, _ = everything(path.with_name("new.sqlite"))
    assert set(saved.reopened) == {f"q{n}" for n in range(200)} - set(kept)


@pytest.mark.parametrize("runs", [20, 0])
@pytest.mark.parametrize("damaged", [b"\0" * 40, b'{"usage": {}}'])
async def test_damage_within_what_was_spent_is_said_and_named(path, autojump_clock, runs, damaged):
    """It may be longer than a page, and SQLite does not notice what is wrong on those that follow."""
    await fill(path, 20)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'spent'", (damaged,))
        if not runs:
            for table in ("runs", "outcomes", "checkpoints"):
                connection.execute(f"DELETE FROM {table}")
        connection.commit()
    with pytest.raises(JournalError, match=r"'spent' is damaged: .* -m runmgr.journal salvage"):
        await fill(path, 20)
    if damaged[:1] == b"{":
        return  # nothing says that this is damage, but whoever asks what was spent
    saved = salvage(path, path.with_name("new.sqlite"))
    assert saved.lost[0] == "meta ('spent'): it is no JSON any more"
    assert saved.finished == runs
    await fill(path.with_name("new.sqlite"), 20)
    assert everything(path.with_name("new.sqlite"))[1] == {"succeeded": 20, "open": 0}


async def test_an_undamaged_journal_is_saved_whole(path, autojump_clock, capsys):
    await fill(path, 20, stop=0.35)
    new = path.with_name("new.sqlite")
    assert main(["salvage", str(path), str(new)]) == 0
    assert "20 runs" in capsys.readouterr().out
    assert everything(new) == everything(path)
    assert main(["salvage", str(path), str(new)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["compact", str(new)]) == 0
    assert main(["bake"]) == 2


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of a file's size here")
def test_a_disk_that_fills_up_while_runs_are_written(path):
    """A real file that cannot grow: the supervisor stops with a clear error, and what was told is there."""
    program = """
        import resource, signal, sys, trio
        from runmgr.exceptions import JournalError
        from runmgr.agent import Agent
        from runmgr.supervisor import open_supervisor
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async def main():
            try:
                async with open_supervisor(journal=sys.argv[1], max_running=5) as sup:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
                    async with sup.map(Agent("sim:"), ("q" * 500 for _ in range(100_000))) as outcomes:
                        async for outcome in outcomes:
                            if outcome.succeeded:
                                print(outcome.run_id, flush=True)
            except JournalError as error:
                print("error", error)
        trio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    *told, error = done.stdout.splitlines()
    assert error.startswith(f"error {path}: cannot write the journal: "), done.stderr
    assert "disk" in error
    with open_journal(path) as journal:
        assert told
        assert all(journal.finished(run_id) for run_id in told)
