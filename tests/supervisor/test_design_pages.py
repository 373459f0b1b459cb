"""docs/design says of the supervisor what the code does."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest
import trio

from runmgr.exceptions import TooManyFailures
from runmgr.journal import open_journal
from runmgr.records.events import RunEvent
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.commands import COMMANDS
from runmgr.supervisor.states import TRANSITIONS, diagram

DESIGN = Path(__file__).parents[2] / "docs" / "design"


def rows(page, heading):
    """The rows of the first table under a heading, as lists of cells without backticks."""
    text = (DESIGN / page).read_text(encoding="utf-8").split(heading, 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE).group().splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")] for line in lines]


def test_states():
    assert diagram() in (DESIGN / "states.md").read_text(encoding="utf-8")
    shown = {
        state: dict(reversed(exit_.split(" → ")) for exit_ in exits.split(", ")) if "→" in exits else {}
        for state, exits in rows("states.md", "# The states")
    }
    assert shown == {
        state.value: {after.value: trigger for trigger, after in exits.items()}
        for state, exits in TRANSITIONS.items()
    }


def test_commands():
    shown = {name: tuple(cells) for name, *cells in rows("events.md", "## Commands")}
    assert shown == {name: tuple(cell.replace("`", "") for cell in cells) for name, cells in COMMANDS.items()}


def test_events():
    shown = {name: (tag, fields.split(", ")) for name, tag, _, fields in rows("events.md", "## Events")}
    assert shown == {
        kind.__name__: (kind.__struct_config__.tag, list(kind.__struct_fields__))
        for kind in typing.get_args(RunEvent)
        if kind.__name__ != "UnknownEvent"
    }


LADDER = {rung: cells for rung, *cells in rows("supervision.md", "## The ladder")}


class Mine(Exception):
    pass


async def nap(run):
    await trio.sleep(2)


async def boom(run):
    await trio.sleep(1)
    raise ValueError


def test_the_ladder_is_whole():
    assert set(LADDER) == {"leave", "drain", "grace", "cancel", "raise", "outer", "failures"}


@pytest.mark.parametrize("rung", LADDER)
async def test_each_rung_does_what_the_page_says(fakes, autojump_clock, tmp_path, rung):
    queued, running, kept, block = LADDER[rung]
    path = tmp_path / "journal.sqlite"
    agent = fakes.Agent(nap, nap)
    tasks = trio.lowlevel.current_statistics().tasks_living
    raised, went_on, handles = None, False, []
    with trio.CancelScope() as outer:
        try:
            async with open_supervisor(max_running=1, journal=path, max_failures=0) as sup:
                if rung == "failures":
                    handles.append(await sup.submit(fakes.Agent(boom), run_id="failed"))
                    sup.max_running = 2
                handles += [await sup.submit(agent, run_id=f"r{number}") for number in range(2)]
                await trio.sleep(0.5)
                sup.max_running = 1
                if rung == "drain":
                    await sup.drain()
                elif rung in {"grace", "cancel"}:
                    sup.cancel(grace=10 if rung == "grace" else 0)
                    await sup.drain()
                elif rung == "raise":
                    raise Mine
                elif rung == "outer":
                    outer.cancel()
                    await trio.sleep(100)
                elif rung == "failures":
                    await trio.sleep(100)
                went_on = True
        except (Mine, TooManyFailures) as error:
            raised = error
    ended_at = trio.current_time()
    first, second = [await handle.outcome() for handle in handles[-2:]]
    assert second.status == ("succeeded" if queued == "run" else "cancelled")
    assert (first.status == "succeeded") is (running == "finish")
    if running == "finish":
        assert ended_at == 8
    elif running.startswith("end at"):
        assert ended_at == 2  # its first node was done
    else:
        assert running == "cancelled where they are"
        assert ended_at == (1 if rung == "failures" else 0.5)
    with open_journal(path) as journal:
        finished = {outcome.run_id for outcome in journal.outcomes()}
    assert finished - {"failed"} == ({"r0", "r1"} if kept == "ended" else set())
    assert kept in {"ended", "open"}
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert went_on is (block in {"is left", "goes on"})
    assert outer.cancelled_caught is (block == "is cancelled")
    names = {"raises what its body raised": Mine, "raises TooManyFailures": TooManyFailures}
    assert type(raised) is names.get(block, type(None))
