"""Progress on stderr: a live display on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.batch.state import BatchState

__all__ = ("watch_live", "watch_plainly")

_LIVE_SECONDS = 0.2
_PLAIN_SECONDS = 5.0
_RATE_WINDOW = 20.0


class Rate:
    """Runs a second over the last while."""

    def __init__(self, state: BatchState) -> None:
        self._state = state
        self._marks: deque[tuple[float, int]] = deque()

    def now(self) -> float:
        """The rate; 0 before anything ended."""
        marks, at = self._marks, trio.current_time()
        marks.append((at, self._state.tally.ended))
        while len(marks) > 2 and at - marks[0][0] > _RATE_WINDOW:
            marks.popleft()
        first = marks[0] if len(marks) > 1 else (self._state.started, self._state.resumed)
        seconds = at - first[0]
        return max(0, self._state.tally.ended - first[1]) / seconds if seconds > 0 else 0.0


def facts(state: BatchState, rate: float) -> dict[str, str]:
    """What there is to say, as words."""
    tally = state.tally
    done = text.count(tally.ended) + (f"/{text.count(state.total)}" if state.total is not None else "")
    eta = "-"
    if state.total is not None and rate > 0 and (remaining := state.total - tally.ended):
        eta = text.duration(max(1.0, remaining / rate))
    return {
        "done": done,
        "failed": text.count(tally.failed),
        "running": text.count(state.running),
        "rate": f"{rate:,.1f}/s",
        "eta": eta,
        "tokens": text.tokens(tally.usage),
        "cost": text.dollars(tally.cost),
        "flight": _at_provider(state) or _in_flight(state),
    }


def _at_provider(state: BatchState) -> str:
    """Batches at the provider, and how far they are; empty where there are none."""
    standing = [] if state.provider_batches is None else state.provider_batches()
    if not standing:
        return ""
    done, total = sum(each[2] for each in standing), sum(each[3] for each in standing)
    statuses = ", ".join(sorted({each[1] for each in standing})[:3])
    which = standing[0][0] if len(standing) == 1 else f"{text.count(len(standing))} batches"
    return f"at the provider: {which} ({statuses}), {text.count(done)}/{text.count(total)}"


def _in_flight(state: BatchState) -> str:
    """Requests in flight, of how many, and what is in their way; empty where nothing is adapted or limited."""
    models = [] if state.models is None else list(state.models().values())
    limited = [model for model in models if model.in_flight_limit is not None]
    if not limited:
        return ""
    now, most = (
        sum(counts) for counts in zip(*((m.in_flight, m.in_flight_limit) for m in limited), strict=True)
    )
    words = f"in flight {text.count(now)}/{text.count(most)}"
    refused = sum(model.refused for model in limited)
    if refused:
        words += f", {text.count(refused)} refused"
    if any(model.cooling_until is not None for model in limited):
        words += ", quota spent: waiting"
    return words


async def watch_plainly(state: BatchState) -> None:
    """Prints a line every few seconds, until cancelled."""
    rate = Rate(state)
    rate.now()
    while True:
        await trio.sleep(_PLAIN_SECONDS)
        if state.phase == "reading":
            print(
                f"runmgr: checking the input: {text.plural(state.rows_read, 'row')}",
                file=sys.stderr,
                flush=True,
            )
            continue
        say = facts(state, rate.now())
        print(
            f"runmgr: {say['done']} done, {say['failed']} failed, {say['running']} running, {say['rate']}, "
            f"ETA {say['eta']}, tokens {say['tokens']}, cost {say['cost']}"
            + (say["flight"] and f", {say['flight']}"),
            file=sys.stderr,
            flush=True,
        )


async def watch_live(state: BatchState) -> None:
    """Draws a display on the terminal, until cancelled; leaves its last state standing."""
    from rich.console import Console
    from rich.live import Live

    rate = Rate(state)
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        try:
            while True:
                live.update(_drawn(state, rate.now()), refresh=True)
                await trio.sleep(_LIVE_SECONDS)
        finally:
            live.update(_drawn(state, rate.now()), refresh=True)


def _drawn(state: BatchState, rate: float) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if state.phase == "reading":
        return Text(f"checking the input: {text.plural(state.rows_read, 'row')}", style="dim")
    say = facts(state, rate)
    grid = Table.grid(padding=(0, 2))
    ended, total = state.tally.ended, state.total
    bar = ProgressBar(
        total=total, completed=ended, width=36, pulse=total is None, animation_time=trio.current_time()
    )
    share = f"{ended / total:6.1%}" if total else ""
    grid.add_row(
        bar,
        Text(say["done"], style="bold"),
        Text(share),
        Text(say["rate"], style="cyan"),
        Text(f"ETA {say['eta']}"),
    )
    below = Text()
    below.append(f"running {say['running']}", style="cyan")
    below.append("   ")
    below.append(f"failed {say['failed']}", style="bold red" if state.tally.failed else "dim")
    below.append(f"   tokens {say['tokens']}   cost {say['cost']}", style="dim")
    if say["flight"]:
        below.append(f"   {say['flight']}", style="yellow" if "quota" in say["flight"] else "dim")
    whole = Table.grid()
    whole.add_row(grid)
    whole.add_row(below)
    if state.phase == "finishing":
        whole.add_row(Text("writing summary and report ...", style="dim"))
    elif state.stopped is not None and state.phase != "done":
        whole.add_row(Text("stopping ... (Ctrl-C: at once)", style="yellow"))
    return whole
