"""The journal by itself: what is written is there, for whoever reads it, whenever the writer dies."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import trio

from runmgr.exceptions import JournalError
from runmgr.journal import open_journal, open_journal_writer
from runmgr.journal.codec import encode_checkpoint, encode_outcome
from runmgr.journal.schema import APPLICATION_ID, MIGRATIONS, SEQUENCE_BITS
from runmgr.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.records.snapshots import PendingCallTools, PendingModelRequest, RunSnapshot
from runmgr.usage import RunUsage

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def ask(text="hi"):
    return ModelRequest(parts=[UserPromptPart(content=text, timestamp=NOON)], timestamp=NOON)


def answer(text="fine"):
    return ModelResponse(parts=[TextPart(content=text)], model_name="m", timestamp=NOON)


def outcome_of(run_id, **changes):
    fields = {
        "run_id": run_id,
        "index": 0,
        "status": RunState.SUCCEEDED,
        "output": "fine",
        "usage": RunUsage(requests=1, input_tokens=3, details={"x": 1}),
        "cost": Decimal("0.0123"),
        "group": "g",
        "metadata": {"k": [1, 2]},
        "queued_at": 1.0,
        "started_at": 2.0,
        "finished_at": 3.0,
        "model": "m",
        "messages": [ask(), answer()],
        "input": "hi",
    }
    return RunOutcome(**{**fields, **changes})


class Told:
    def __init__(self):
        self.values = []

    def __call__(self, ok):
        self.values.append(ok)


def write(writer, outcome, known=0, *, told=None, run=None, fingerprint=None):
    if run is None:
        run = writer.admitted(
            outcome.run_id,
            outcome.index,
            outcome.group,
            fingerprint,
            outcome.queued_at,
            b'"hi"',
            b'{"k":[1,2]}',
        )
    body = encode_outcome(outcome, known, reset=False)
    writer.ended(run, outcome.status.value, outcome.finished_at, body, told or Told())
    return run


def snapshot_of(messages, pending, **changes):
    fields = {
        "run_id": "r",
        "messages": messages,
        "pending": pending,
        "usage": RunUsage(requests=1),
        "run_step": 1,
    }
    return RunSnapshot(**{**fields, **changes})


def body_of(snapshot, known, **changes):
    fields = {
        "reset": False,
        "paid": None,
        "cost": Decimal(0),
        "unpriced": 0,
        "attempts": 1,
        "started_at": 2.0,
        "model": "m",
    }
    return encode_checkpoint(snapshot, known, **{**fields, **changes})


@pytest.fixture(params=[True, False], ids=["thread", "loop"])
def threaded(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


async def test_an_outcome_comes_back_as_it_was(path, threaded):
    told = Told()
    original = outcome_of("a")
    failed = outcome_of(
        "b", status=RunState.FAILED, output=None, error=RunError("ValueError", "no", 404, "trace"), cost=None
    )
    async with open_journal_writer(path, threaded=threaded) as writer:
        write(writer, original, told=told)
        write(writer, failed)
        assert told.values == []
        await writer.committed()
        assert told.values == [True]
        with open_journal(path) as reader:  # while it is being written
            assert [outcome.run_id for outcome in reader] == ["a", "b"]
            assert reader.finished("a")
            assert not reader.finished("c")
    with open_journal(path) as reader:
        back = reader.outcome("a")
        assert back == outcome_of("a", replayed=True)
        assert reader.outcome("b", messages=False) == outcome_of(
            "b",
            status=RunState.FAILED,
            output=None,
            error=failed.error,
            cost=None,
            messages=[],
            replayed=True,
        )
        assert reader.outcome("c") is None
        assert reader.counts() == {"succeeded": 1, "failed": 1, "open": 0}
        assert [outcome.messages for outcome in reader.outcomes(messages=True)] == [original.messages] * 2


async def test_leaving_the_block_commits_everything(path, threaded):
    told = Told()
    with pytest.raises(KeyError):
        async with open_journal_writer(path, threaded=threaded) as writer:
            for number in range(1_000):
                write(writer, outcome_of(f"r{number}"), told=told)
            raise KeyError
    assert told.values == [True] * 1_000
    with open_journal(path) as reader:
        assert reader.counts() == {"succeeded": 1_000, "open": 0}


async def test_many_records_share_a_commit(path):
    async with open_journal_writer(path) as writer:
        for number in range(500):
            write(writer, outcome_of(f"r{number}"))
        await writer.committed()
        assert writer.commits <= 2


async def test_checkpoints_add_up_to_where_the_run_stood(path, threaded):
    call = ModelResponse(parts=[ToolCallPart("add", {"a": 1}, "c1")])
    messages = [ask(), call]
    async with open_journal_writer(path, threaded=threaded) as writer:
        run = writer.admitted("r", 7, "g", "fp", 1.0, b'"hi"', None)
        writer.checkpoint(run, 0, body_of(snapshot_of(messages, PendingCallTools(call)), 0))
        followup = ask("3")
        late = snapshot_of(
            messages,
            PendingModelRequest(followup),
            tool_retries={"add": 1},
            output_retries=2,
            new_message_index=0,
            run_step=1,
        )
        writer.checkpoint(
            run, 1, body_of(late, 2, paid=RunUsage(requests=2), cost=Decimal("0.5"), unpriced=1)
        )
        unknown = writer.admitted("never begun", 8, "g", None, 1.0, None, None)
    with open_journal(path) as reader:
        found = list(reader.unfinished())
        assert [one.run_id for one in found] == ["r", "never begun"]
        restored, fresh = found
        assert restored.snapshot == snapshot_of(
            messages, PendingModelRequest(followup), tool_retries={"add": 1}, output_retries=2
        )
        assert (restored.checkpoints, restored.fingerprint, restored.cost, restored.unpriced) == (
            2,
            "fp",
            Decimal("0.5"),
            1,
        )
        assert restored.paid == RunUsage(requests=2)
        assert fresh.snapshot is None
        assert reader.look_up("r") == (run, restored)
        assert unknown == 2
        assert reader.counts() == {"open": 2}


async def test_a_pending_response_is_the_last_message_and_not_kept_twice(path):
    call = ModelResponse(parts=[ToolCallPart("add", {"a": 1}, "c1")])
    assert body_of(snapshot_of([ask(), call], PendingCallTools(call)), 0).count(b"c1") == 1
    async with open_journal_writer(path) as writer:
        run = writer.admitted("r", 0, "", None, 1.0, None, None)
        writer.checkpoint(run, 0, body_of(snapshot_of([ask(), call], PendingCallTools(call)), 0))
        other = ModelResponse(parts=[ToolCallPart("sub", {}, "c2")])
        writer.checkpoint(run, 1, body_of(snapshot_of([ask(), call], PendingCallTools(other)), 2))
    with open_journal(path) as reader:
        _, restored = reader.look_up("r")
        assert restored.snapshot.pending == PendingCallTools(other)


async def test_a_rewritten_history_replaces_what_was_kept(path):
    async with open_journal_writer(path) as writer:
        run = writer.admitted("r", 0, "", None, 1.0, None, None)
        writer.checkpoint(
            run,
            0,
            body_of(
                snapshot_of([ask("1"), answer("2"), ask("3"), answer("4")], PendingModelRequest(ask("5"))), 0
            ),
        )
        writer.checkpoint(
            run,
            1,
            body_of(snapshot_of([ask("3"), answer("4")], PendingModelRequest(ask("5"))), 4, reset=True),
        )
        writer.checkpoint(
            run, 2, body_of(snapshot_of([ask("3"), answer("4"), ask("5")], PendingModelRequest(ask("6"))), 2)
        )
        done = outcome_of("r", messages=[ask("3"), answer("4"), ask("5"), answer("end")])
        write(writer, done, known=3, run=run)
    with open_journal(path) as reader:
        texts = [message.parts[0].content for message in reader.outcome("r").messages]
    assert texts == ["3", "4", "5", "end"]


async def test_a_run_begun_again_counts_once(path):
    async with open_journal_writer(path) as writer:
        first = write(writer, outcome_of("a", status=RunState.FAILED, output=None))
        writer.superseded(first)
        write(writer, outcome_of("a"))
    with open_journal(path) as reader:
        assert [outcome.status for outcome in reader] == ["succeeded"]
        assert reader.outcome("a").status == "succeeded"
        assert reader.counts() == {"succeeded": 1, "open": 0}


async def test_values_under_keys(path):
    async with open_journal_writer(path) as writer:
        writer.set_meta("batch", {"model": "m"})
        writer.set_meta("batch", {"model": "n"})
        await writer.committed()
        writer.set_meta("other", [1])
    with open_journal(path) as reader:
        assert reader.meta("batch") == {"model": "n"}
        assert reader.meta("nothing") is None
        assert reader.all_meta() == {"batch": {"model": "n"}, "other": [1]}


async def test_an_output_without_a_json_form_is_kept_as_its_repr(path):
    class Odd:
        def __repr__(self):
            return "<odd>"

    async with open_journal_writer(path) as writer:
        write(writer, outcome_of("a", output=Odd()))
        write(writer, outcome_of("b", output={"x": Decimal("1.5")}))
    with open_journal(path) as reader:
        assert [outcome.output for outcome in reader] == ["<odd>", {"x": "1.5"}]


async def test_names_looked_up_while_runs_are_added(path):
    async with open_journal_writer(path) as writer:
        with open_journal(path) as reader:
            for number in range(5):
                write(writer, outcome_of(f"r{number}"))
                await writer.committed()
                assert reader.finished(f"r{number}")
                assert not reader.finished(f"r{number + 1}")


# -------------------------------------------------------------------- damage and strangers


async def test_a_second_writer_is_told_who_has_it(path):
    async with open_journal_writer(path):
        with pytest.raises(JournalError, match="being written by this process"):
            async with open_journal_writer(path):
                pass
    async with open_journal_writer(path):
        pass  # free again
    assert not path.with_name(path.name + "-lock").exists()


async def test_a_writer_in_another_process_is_named(path):
    program = """
        import sys, trio
        from runmgr.journal import open_journal_writer
        async def main():
            async with open_journal_writer(sys.argv[1]):
                print("open", flush=True)
                await trio.sleep_forever()
        trio.run(main)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], stdout=subprocess.PIPE
    ) as child:
        try:
            assert child.stdout.readline() == b"open\n"
            with pytest.raises(JournalError, match=rf"being written by process {child.pid} \(python\S* -c\)"):
                async with open_journal_writer(path):
                    pass
        finally:
            child.kill()
    async with open_journal_writer(path):  # the lock died with it
        pass


async def test_what_is_no_journal_is_refused(path, tmp_path):
    path.write_bytes(b"this is not a database, but it is long enough to be looked at as one" * 20)
    for opened in (open_journal_writer(path), None):
        with pytest.raises(JournalError, match=r"journal\.sqlite: .*not a journal of runmgr"):
            if opened is None:
                open_journal(path)
            else:
                async with opened:
                    pass
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(JournalError, match="an SQLite file, but not a journal"):
        open_journal(other)
    with pytest.raises(JournalError, match="an SQLite file, but not a journal"):
        async with open_journal_writer(other):
            pass
    with pytest.raises(JournalError, match="no such journal"):
        open_journal(tmp_path / "missing.sqlite")
    with pytest.raises(JournalError, match="existing, writable directory"):
        async with open_journal_writer(tmp_path / "no" / "where.sqlite"):
            pass


def make_old(path, *, rows):
    """A journal as version 1 made it."""
    with sqlite3.connect(path) as connection:
        for statement in MIGRATIONS[0].split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        call = ModelResponse(parts=[ToolCallPart("add", {"a": 1}, "c1")])
        for run in range(1, rows + 1):
            connection.execute(
                "INSERT INTO runs VALUES (?, ?, 0, '', NULL, 1.0, ?, NULL)", (run, f"r{run}", b'"hi"')
            )
            body = body_of(snapshot_of([ask(), call], PendingCallTools(call)), 0)
            connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (run << SEQUENCE_BITS, body))
    connection.close()


@pytest.mark.parametrize("rows", [0, 3])
async def test_a_journal_of_version_1_is_gone_on_with(path, rows, threaded):
    make_old(path, rows=rows)
    with open_journal(path) as reader:
        assert reader.counts() == {"open": rows}
    async with open_journal_writer(path, threaded=threaded) as writer:
        assert writer.runs == rows
        for run in range(1, rows + 1):
            write(writer, outcome_of(f"r{run}", messages=[ask(), answer("a"), answer("b")]), known=2, run=run)
        new = writer.admitted("new", 0, "", None, 1.0, None, None)
        call = ModelResponse(parts=[ToolCallPart("add", {"a": 1}, "c1")])
        writer.checkpoint(new, 0, body_of(snapshot_of([ask(), call], PendingCallTools(call)), 0))
    with open_journal(path) as reader:
        assert [one.run_id for one in reader.unfinished()] == ["new"]
        assert reader.look_up("new")[1].checkpoints == 1
        for outcome in reader.outcomes(messages=True):
            assert [type(part).__name__ for message in outcome.messages for part in message.parts] == [
                "UserPromptPart",
                "ToolCallPart",
                "TextPart",
            ]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert bool(connection.execute("PRAGMA index_list(checkpoints)").fetchall()) == (not rows)
    connection.close()


async def test_a_newer_schema_is_refused(path):
    async with open_journal_writer(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="newer runmgr"):
        async with open_journal_writer(path):
            pass
    with pytest.raises(JournalError, match="newer runmgr"):
        open_journal(path)


async def test_a_failing_disk_is_told_to_everyone_who_waits(path, threaded):
    errors = []
    told = Told()
    async with open_journal_writer(path, threaded=threaded) as writer:
        writer.on_error(errors.append)
        write(writer, outcome_of("a"))
        await writer.committed()
        writer.connection.execute("PRAGMA max_page_count = 1")
        for number in range(100):
            write(writer, outcome_of(f"b{number}", output="x" * 10_000), told=told)
        with pytest.raises(JournalError, match="disk is full"):
            await writer.committed()
        assert told.values == [False] * 100
        write(writer, outcome_of("c"), told=told)
        assert told.values == [False] * 101
        assert len(errors) == 1
    with open_journal(path) as reader:
        assert [outcome.run_id for outcome in reader] == ["a"]


async def test_a_damaged_row_is_named(path):
    async with open_journal_writer(path) as writer:
        write(writer, outcome_of("a"))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE outcomes SET body = '{\"usage\": 3'")
    connection.commit()
    connection.close()
    with open_journal(path) as reader, pytest.raises(JournalError, match="of run a is damaged"):
        reader.outcome("a")


async def test_a_journal_in_a_read_only_directory_can_be_read(path):
    async with open_journal_writer(path) as writer:
        write(writer, outcome_of("a"))
    path.parent.chmod(0o555)
    try:
        with open_journal(path) as reader:
            assert reader.counts() == {"succeeded": 1, "open": 0}
        if os.geteuid():
            with pytest.raises(JournalError, match="writable"):
                async with open_journal_writer(path):
                    pass
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_what_was_told_survives_kill_9(path, durability):
    program = """
        import sys, trio
        from runmgr.journal import open_journal_writer
        async def main():
            async with open_journal_writer(sys.argv[1], durability=sys.argv[2]) as writer:
                number = 0
                def tell(number):
                    def told(ok):
                        print(number, flush=True)
                    return told
                while True:
                    run = writer.admitted(f"r{number}", number, "", None, 1.0, None, None)
                    writer.ended(run, "succeeded", 2.0, b'{"usage":{}}', tell(number))
                    number += 1
                    if number % 50 == 0:
                        await writer.committed()
        trio.run(main)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        seen = [child.stdout.readline() for _ in range(120)]
        os.kill(child.pid, signal.SIGKILL)
        seen += child.stdout.read().split(b"\n")[:-1]
    told = max(int(line) for line in seen if line.strip())
    async with open_journal_writer(path) as writer:  # recovers
        assert writer.runs > told
    with open_journal(path) as reader:
        assert all(reader.finished(f"r{number}") for number in range(told + 1))


async def test_a_writer_that_fails_keeps_nobody_waiting(path, threaded):
    async def wait(writer):
        with pytest.raises(JournalError, match="the journal's writer failed"):
            await writer.next_commit()
        ended.append(1)

    def tell(ok):
        raise ValueError("a bug")

    ended = []
    with pytest.raises(RuntimeError, match="the journal's writer failed: a bug in runmgr"):
        async with open_journal_writer(path, threaded=threaded) as writer, trio.open_nursery() as nursery:
            write(writer, outcome_of("a"), told=tell)
            nursery.start_soon(wait, writer)
            nursery.start_soon(wait, writer)
    assert ended == [1, 1]


async def test_waiting_for_a_commit_can_be_cancelled(path, threaded):
    async with open_journal_writer(path, threaded=threaded) as writer:
        write(writer, outcome_of("a"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await writer.committed()
        assert scope.cancelled_caught
        await writer.committed()
    with open_journal(path) as reader:
        assert reader.finished("a")


async def test_next_commit_ends_by_a_cancellation_when_it_is_there_and_only_for_whom_it_is(path, threaded):
    ended = []

    async def wait(name, scope):
        with scope:
            await writer.next_commit()
            with open_journal(path) as reader:
                ended.append((name, reader.finished("a") is not None))

    scopes = {name: trio.CancelScope() for name in ("before", "while", "stays")}
    async with open_journal_writer(path, threaded=threaded) as writer:
        write(writer, outcome_of("a"))
        async with trio.open_nursery() as nursery:
            scopes["before"].cancel()
            for name, scope in scopes.items():
                nursery.start_soon(wait, name, scope)
            await trio.lowlevel.checkpoint()
            scopes["while"].cancel()
    assert ended == [("stays", True)]
    assert scopes["before"].cancelled_caught
    assert scopes["while"].cancelled_caught


async def test_the_log_is_moved_beside_the_commits(tmp_path):
    """Long before the writer would do it within a commit; and what it leaves behind is whole."""
    path = tmp_path / "j.sqlite"
    body = b"x" * 20_000
    async with open_journal_writer(path) as writer:
        for number in range(20):
            writer.admitted(f"r{number}", number, "", None, 1.0, body, None)
        await writer.committed()
        with trio.fail_after(30):
            while path.stat().st_size < 20 * len(body):
                await trio.sleep(0.05)
        writer.admitted("last", 20, "", None, 1.0, None, None)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (21,)
    connection.close()
    assert not path.with_name(path.name + "-wal").exists()
