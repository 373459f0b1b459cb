"""What the journal costs: outcomes a second, event-loop time of a run with checkpoints, and opening a million runs for resume.

Beside it, in the same run, plain batched ``sqlite3`` inserts of the same bytes: what the file itself costs. All in a temporary
directory on the disk of the system. Parts take turns; ratios are taken within a round.

    python bench/journal.py [--rounds N] [--runs N] [--million N]
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

import trio

from runmgr import Agent, ModelResponse, TextPart, ToolCallPart, open_supervisor
from runmgr.journal import open_journal, open_journal_writer
from runmgr.journal.codec import encode_outcome
from runmgr.messages import ModelRequest, UserPromptPart
from runmgr.models.function import FunctionModel
from runmgr.records.outcomes import RunOutcome, RunState
from runmgr.supervisor import RunSpec
from runmgr.usage import RunUsage

from harness import finish, save

OUTCOMES_A_SECOND = 20_000
LOOP_MICROSECONDS = 60
OPEN_SECONDS = 5


def outcome_of(number: int) -> RunOutcome:
    return RunOutcome(
        run_id=f"{number:016x}",
        index=number,
        status=RunState.SUCCEEDED,
        output="the answer is 42",
        usage=RunUsage(requests=1, input_tokens=120, output_tokens=30),
        queued_at=1_700_000_000.0,
        started_at=1_700_000_001.0,
        finished_at=1_700_000_002.0,
        model="m",
        messages=[
            ModelRequest(parts=[UserPromptPart(content=f"prompt {number}")]),
            ModelResponse(parts=[TextPart(content="the answer is 42")]),
        ],
        input=f"prompt {number}",
    )


async def outcomes(path: Path, count: int) -> dict[str, float]:
    """Admit and end runs as fast as the journal takes them: encoding, both rows, commit, and being told."""
    made = [outcome_of(number) for number in range(1000)]
    told = 0

    def tell(ok: bool) -> None:
        nonlocal told
        told += ok

    began = time.perf_counter()
    async with open_journal_writer(path) as writer:
        for number in range(count):
            outcome = made[number % 1000]
            run = writer.admitted(f"{number:016x}", number, "", "f", outcome.queued_at, b'"prompt"', None)
            writer.ended(run, "succeeded", outcome.finished_at, encode_outcome(outcome, 0, reset=False), tell)
            if number % 200 == 199:
                await writer.committed()
    seconds = time.perf_counter() - began
    assert told == count
    return {"per_s": count / seconds}


def plain(path: Path, count: int) -> dict[str, float]:
    """The same rows by ``executemany`` in transactions of 200; the bodies are encoded before the clock starts."""
    body = encode_outcome(outcome_of(0), 0, reset=False)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(
        "CREATE TABLE runs (run INTEGER PRIMARY KEY, id, position, grp, fingerprint, queued_at, input, metadata)"
    )
    connection.execute("CREATE TABLE outcomes (run INTEGER PRIMARY KEY, status, finished_at, body)")
    began = time.perf_counter()
    for first in range(0, count, 200):
        numbers = range(first, min(count, first + 200))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(n, f"{n:016x}", n, "", "f", 1.0, b'"prompt"', None) for n in numbers],
        )
        connection.executemany(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?)", [(n, "succeeded", 2.0, body) for n in numbers]
        )
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    return {"per_s": count / seconds}


async def answer(messages: list[object], info: object) -> ModelResponse:
    await trio.sleep(0.2)
    turn = len(messages) // 2
    if turn < 2:
        return ModelResponse(parts=[ToolCallPart("add", {"a": turn, "b": 1}, f"call_{turn}")])
    return ModelResponse(parts=[TextPart("the answer is 42")])


agent = Agent(FunctionModel(answer), name="bench")


@agent.tool_plain(idempotent=True)
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def three_turns(runs: int, path: Path | None) -> float:
    """Microseconds of the event loop's thread a run: 1,000 at once, three turns, two tool calls."""
    async with open_supervisor(max_running=1000, max_queued=1000, journal=path) as sup:
        for index in range(200):
            await sup.submit(agent, f"warm {index}")
        await trio.sleep(1.5)
        began = time.thread_time()
        async with sup.map(agent, (f"prompt {index}" for index in range(runs))) as told:
            async for outcome in told:
                assert outcome.succeeded, outcome.error
        return (time.thread_time() - began) / runs * 1e6


def fill(path: Path, runs: int) -> None:
    """A journal of so many finished runs, and a few that are not, written by the journal's own batches."""

    async def write() -> None:
        body = encode_outcome(outcome_of(0), 0, reset=False)
        async with open_journal_writer(path) as writer:
            for number in range(runs):
                run = writer.admitted(f"{number:016x}", number, "", "f", 1.0, b'"prompt"', None)
                if number % 1000:
                    writer.ended(run, "succeeded", 2.0, body, lambda _: None)
                if number % 2000 == 1999:
                    await writer.committed()

    trio.run(write)


async def reopen(path: Path, runs: int) -> float:
    """Seconds until a supervisor on the journal has looked its first finished runs up."""
    began = time.perf_counter()
    async with open_supervisor(journal=path, resume=True) as sup:
        async with sup.map(
            agent, (RunSpec(prompt="prompt", run_id=f"{n:016x}") for n in (1, runs // 2 + 1, runs - 1))
        ) as told:
            async for outcome in told:
                assert outcome.replayed
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--outcomes", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=6_000)
    parser.add_argument("--million", type=int, default=1_000_000)
    options = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(options.rounds):
            at = Path(directory)
            row = {
                "journal_per_s": trio.run(outcomes, at / f"j{number}", options.outcomes)["per_s"],
                "plain_per_s": plain(at / f"p{number}", options.outcomes)["per_s"],
                "without_us": trio.run(three_turns, options.runs, None),
                "with_us": trio.run(three_turns, options.runs, at / f"t{number}"),
            }
            rounds.append(row)
            for old in at.iterdir():
                old.unlink()
        path = Path(directory) / "million.sqlite"
        fill(path, options.million)
        opened = [trio.run(reopen, path, options.million) for _ in range(3)]
        with open_journal(path) as journal:
            began = time.perf_counter()
            counts = journal.counts()
            counted = time.perf_counter() - began
        size = path.stat().st_size / 2**20

    def middle(name: str) -> float:
        return statistics.median(row[name] for row in rounds)

    share = statistics.median(row["journal_per_s"] / row["plain_per_s"] for row in rounds)
    cost = statistics.median(row["with_us"] - row["without_us"] for row in rounds)
    open_seconds = statistics.median(opened)
    print(
        f"outcomes: {middle('journal_per_s'):,.0f}/s; plain batched inserts of the same rows {middle('plain_per_s'):,.0f}/s; ratio {share:.2f}"
    )
    print(
        f"three turns, 1,000 at once: {middle('without_us'):.0f} us of the event loop a run without a journal, "
        f"{middle('with_us'):.0f} with one: {cost:.0f} us for it"
    )
    print(
        f"{options.million:,} runs ({size:,.0f} MiB): open for resume in {open_seconds:.2f} s, counted in {counted:.2f} s: {counts}"
    )
    print(
        f"written to {save('journal', {'rounds': rounds, 'open_seconds': opened, 'cost_us': cost, 'ratio_to_plain': share})}"
    )
    failed: list[str] = []
    if middle("journal_per_s") < OUTCOMES_A_SECOND:
        failed.append(f"{middle('journal_per_s'):,.0f} outcomes/s, claimed {OUTCOMES_A_SECOND:,}")
    if cost > LOOP_MICROSECONDS:
        failed.append(f"{cost:.0f} us of the event loop a three-turn run, claimed {LOOP_MICROSECONDS}")
    if open_seconds > OPEN_SECONDS:
        failed.append(f"{open_seconds:.1f} s to open, claimed {OPEN_SECONDS}")
    finish(failed)


if __name__ == "__main__":
    main()
