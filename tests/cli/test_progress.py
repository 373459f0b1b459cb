import io

import pytest
import trio

from runmgr.batch import BatchState
from runmgr.cli.progress import watch_live, watch_plainly
from runmgr.report import ResultLine, Tally


@pytest.fixture
def state():
    def make(**options):
        return BatchState(tally=Tally(), max_running=8, **options)

    return make


def end(state, number, status="succeeded"):
    for index in range(number):
        state.tally.add(
            ResultLine(
                index=index,
                run_id="0",
                status=status,
                usage={"requests": 1, "input_tokens": 1000, "output_tokens": 10},
            )
        )


async def test_a_line_now_and_then(state, capsys, autojump_clock):
    batch = state(total=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_plainly, batch)
        await trio.sleep(1)
        batch.rows_read = 1234
        await trio.sleep(5)
        batch.phase = "running"
        batch.unfinished.update(dict.fromkeys(range(20)))
        end(batch, 38)
        end(batch, 2, "failed")
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "runmgr: checking the input: 1,234 rows",
        "runmgr: 40/100 done, 2 failed, 8 running, 4.0/s, ETA 15 s, tokens 40,000 in, 400 out, cost unknown",
    ]


async def test_at_the_end_there_is_nothing_to_wait_for(state, capsys, autojump_clock):
    batch = state(phase="running", total=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_plainly, batch)
        await trio.sleep(6)
        end(batch, 10)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert "runmgr: 10/10 done, 0 failed, 0 running, 1.0/s, ETA -, " in capsys.readouterr().err


async def test_without_a_known_end_there_is_no_eta(state, capsys, autojump_clock):
    batch = state(phase="running")
    end(batch, 5)
    with trio.move_on_after(6):
        await watch_plainly(batch)
    assert "runmgr: 5 done, 0 failed, 0 running, " in capsys.readouterr().err


async def test_the_live_display(state, monkeypatch, autojump_clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    batch = state(total=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_live, batch)
        await trio.sleep(0.3)
        batch.phase = "running"
        end(batch, 37)
        end(batch, 3, "failed")
        await trio.sleep(2)
        batch.stop()
        await trio.sleep(0.3)
        batch.phase = "done"
        nursery.cancel_scope.cancel()
    seen = terminal.getvalue()
    for words in (
        "checking the input",
        "40/100",
        "40.0%",
        "failed 3",
        "tokens 40,000 in, 400 out",
        "cost unknown",
        "stopping ... (Ctrl-C: at once)",
    ):
        assert words in seen
    assert "stopping" not in seen.rpartition("40/100")[2]
    assert seen.endswith("\x1b[?25h")  # the cursor is back


async def test_what_is_in_flight_and_what_is_in_its_way(state, capsys, autojump_clock):
    from runmgr.records.snapshots import ModelState
    from runmgr.usage import RunUsage

    batch = state(phase="running", total=10)
    models = {
        "a": ModelState(usage=RunUsage(), cost=None, in_flight=38, in_flight_limit=40, refused=3),
        "b": ModelState(usage=RunUsage(), cost=None, in_flight=2, in_flight_limit=5, cooling_until=9.0),
        "free": ModelState(usage=RunUsage(), cost=None, in_flight=7),
    }
    batch.models = lambda: models
    end(batch, 5)
    with trio.move_on_after(6):
        await watch_plainly(batch)
    assert "in flight 40/45, 3 refused, quota spent: waiting" in capsys.readouterr().err
