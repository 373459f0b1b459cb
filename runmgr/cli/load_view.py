"""What ``runmgr load`` shows: progress, the figures at the end; and how it is stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.load.state import LoadState

__all__ = ("Interrupts", "print_figures", "watch_live", "watch_plainly")

_LIVE_SECONDS = 0.25
_PLAIN_SECONDS = 5.0


class Interrupts:
    """Takes SIGINT and SIGTERM while its ``with`` block runs: the first stops the load, the second ends the process."""

    def __init__(self) -> None:
        self._seen = False
        self._state: LoadState | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._taken)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    async def watch(self, state: LoadState) -> None:
        """Says which load to stop; runs beside it."""
        self._state = state
        self._token = trio.lowlevel.current_trio_token()
        if self._seen:
            state.stop()
        await trio.sleep_forever()

    def _taken(self, _number: int, _frame: FrameType | None) -> None:
        if self._seen:
            os._exit(130)
        self._seen = True
        os.write(2, b"\nrunmgr: stopping; once more to stop at once\n")
        if self._token is not None and self._state is not None:
            self._token.run_sync_soon(self._state.stop)


def facts(state: LoadState, before: tuple[float, int, int]) -> dict[str, str]:
    """What there is to say, as words.

    Args:
        state: the load.
        before: a moment (since the start), and the requests that had ended and pieces that had come by then.
    """
    seconds = max(state.elapsed - before[0], 1e-6)
    of = f"/{text.count(state.total)}" if state.total is not None else ""
    return {
        "phase": state.phase,
        "time": f"{max(state.elapsed, 0):.0f} s" + (f" of {state.duration:g} s" if state.duration else ""),
        "sent": text.count(state.sent) + of,
        "done": text.count(state.succeeded),
        "failed": text.count(state.failed),
        "in flight": text.count(state.in_flight),
        "requests": f"{(state.succeeded + state.failed - before[1]) / seconds:,.1f}/s",
        "chunks": f"{(state.chunks - before[2]) / seconds:,.0f}/s",
    }


async def watch_plainly(state: LoadState) -> None:
    """Prints a line every few seconds, until cancelled."""
    before = (0.0, 0, 0)
    while True:
        await trio.sleep(_PLAIN_SECONDS)
        say = facts(state, before)
        before = (state.elapsed, state.succeeded + state.failed, state.chunks)
        print(
            f"runmgr: {say['time']}, {say['sent']} sent, {say['done']} done, {say['failed']} failed, "
            f"{say['in flight']} in flight, {say['requests']}, {say['chunks']} chunks",
            file=sys.stderr,
            flush=True,
        )


async def watch_live(state: LoadState) -> None:
    """Draws a display on the terminal, until cancelled."""
    from rich.console import Console
    from rich.live import Live

    marks: list[tuple[float, int, int]] = [(0.0, 0, 0)]
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            live.update(_drawn(state, facts(state, marks[0])), refresh=True)
            marks.append((state.elapsed, state.succeeded + state.failed, state.chunks))
            del marks[:-12]
            await trio.sleep(_LIVE_SECONDS)


def _drawn(state: LoadState, say: dict[str, str]) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    total = state.duration or state.total
    done = min(state.elapsed, state.duration) if state.duration else state.ended
    grid.add_row(
        ProgressBar(total=total, completed=done, width=36, pulse=total is None),
        Text(say["time"], style="bold"),
        Text(say["requests"], style="cyan"),
        Text(f"{say['chunks']} chunks"),
    )
    below = Text(f"sent {say['sent']}   in flight {say['in flight']}   done {say['done']}   ")
    below.append(f"failed {say['failed']}", style="bold red" if state.failed else "dim")
    if state.phase == "draining":
        below.append("   waiting for the last ...", style="yellow")
    whole = Table.grid()
    whole.add_row(grid)
    whole.add_row(below)
    return whole


_ROWS = (
    ("TTFT", "ttft_ms"),
    ("TTFT from send", "ttft_from_send_ms"),
    ("ITL", "itl_ms"),
    ("TPOT", "tpot_ms"),
    ("end to end", "e2e_ms"),
    ("first tool call", "first_tool_ms"),
    ("in models", "model_ms"),
    ("in tools", "tool_ms"),
    ("overhead", "overhead_ms"),
    ("schedule lag", "schedule_lag_ms"),
)


def _print_sweep(summary: dict[str, Any], console: Any, out: Path | None) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in (
        "rate",
        "met",
        "requests/s",
        "tokens/s",
        "TTFT p50",
        "TTFT p99",
        "ITL p99",
        "e2e p99",
        "client",
    ):
        table.add_column(name, justify="right")

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:,.1f}"

    for row in summary["steps"]:
        times = [row["ttft_ms"]["p50"], row["ttft_ms"]["p99"], row["itl_ms"]["p99"], row["e2e_ms"]["p99"]]
        figures = [row["requests_per_second"], row["output_tokens_per_second"], *times]
        table.add_row(
            f"{row['rate']:g}",
            "yes" if row["met"] else "no",
            *map(shown, figures),
            row["validity"]["verdict"],
        )
    console.print(table)
    best = summary["best_rate"]
    print(
        f"highest rate that met: {best:g} requests/s" if best is not None else "no rate met", file=sys.stderr
    )
    for note in summary["notes"]:
        print(f"note: {note}", file=sys.stderr)
    if out is not None:
        print(f"results in {out}", file=sys.stderr)


def print_figures(summary: dict[str, Any], out: Path | None) -> None:
    """The figures as a table, on stderr."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    calibration = summary.get("calibration")
    if calibration is not None:
        print(
            f"this client, of a server that needs no time: {calibration['requests_per_second']:,.0f} requests/s at "
            f"{calibration['concurrency']} at once; TTFT {calibration['ttft_ms']['p50']:.2f} ms then, "
            f"{calibration['alone_ttft_ms']['p50']:.2f} ms alone",
            file=sys.stderr,
        )
    if summary["kind"] == "sweep":
        _print_sweep(summary, console, out)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("milliseconds")
    columns = ("mean", "p50", "p90", "p99", "p99.9", "max")
    for name in columns:
        table.add_column(name, justify="right")
    for shown, key in _ROWS:
        figures = summary.get(key)
        if figures and figures["n"]:
            table.add_row(shown, *(f"{figures[name]:,.2f}" for name in columns))
    console.print(table)
    noun = summary["kind"]
    window = summary["window"]
    say = [
        f"{summary['requests']:,} {noun}: {summary['succeeded']:,} succeeded, {summary['failed']:,} failed"
        + (f", {summary['cancelled']:,} dropped" if summary["cancelled"] else "")
    ]
    if window is not None:
        say.append(
            f"{summary['requests_per_second']:,.2f} {noun}/s, {summary['output_tokens_per_second']:,.1f} output tokens/s, "
            f"{summary['concurrency']['mean']:,.1f} in flight, from {window['from']:g} s to {window['to']:g} s"
        )
    for kind, one in summary["errors"].items():
        say.append(f"  {one['count']:,} x {kind}: {text.printable(str(one['example']))}")
    for name, one in summary["slo"].items():
        limit = f"{one['limit_ms']:g} ms" if "limit_ms" in one else f"{one['limit']:.1%}"
        found = one.get("value_ms", one.get("value"))
        shown = "never" if found is None else f"{found:g} ms" if "limit_ms" in one else f"{found:.2%}"
        say.append(f"SLO {name}: {shown}, limit {limit}: {'met' if one['met'] else 'MISSED'}")
    validity = summary["validity"]
    say.append(f"validity: {validity['verdict']}")
    say += [f"  {reason}" for reason in validity["reasons"]]
    say += [f"note: {note}" for note in summary["notes"]]
    if out is not None:
        say.append(f"results in {out}")
    for line in say:
        print(line, file=sys.stderr)
