"""A load shared among processes: each sends every Nth request of one schedule, from one beginning, and what they measured is added up."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import trio

from runmgr.exceptions import UserError
from runmgr.load.config import LoadConfig
from runmgr.load.parts import part_of
from runmgr.load.plan import make_plan
from runmgr.load.run import Watch
from runmgr.load.state import LoadState
from runmgr.load.summary import Part

__all__ = ("measure_in_processes",)

_COUNTS = ("sent", "succeeded", "failed", "cancelled", "chunks", "in_flight")


class _Worker:
    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.told: dict[str, Any] = {}
        self.part: Part | None = None
        self.stopped: str | None = None

    async def say(self, data: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.process.stdin.send_all(data)


async def measure_in_processes(
    config: LoadConfig, watch: Sequence[Watch], *, mode: str = "wb"
) -> tuple[list[Part], str | None]:
    """As `measure`, in ``config.processes`` processes; lines go to the directory's ``requests.jsonl``.

    Cancelling ends the processes.

    Raises:
        UserError: a file or an argument is wrong, or there are more processes than requests in flight.
    """
    number = config.processes
    if config.concurrency is not None and config.concurrency < number:
        raise UserError(f"--processes {number}: more than --concurrency {config.concurrency}")
    directory = config.out
    if directory is None:
        raise UserError("--processes needs --out: each process writes what it sees")
    plan = make_plan(config)  # what is wrong with it is found here
    paths = [directory / f"requests.{k}.jsonl" for k in range(number)]
    workers: list[_Worker] = []
    state = LoadState(0.0, total=plan.total, duration=plan.until)
    try:
        async with trio.open_nursery() as nursery:
            for k, path in enumerate(paths):
                mine = config
                if config.concurrency is not None:
                    each, more = divmod(config.concurrency, number)
                    mine = attrs.evolve(config, concurrency=each + (k < more))
                process = await nursery.start(_process)
                worker = _Worker(process)
                workers.append(worker)
                given = pickle.dumps({"config": mine, "share": (k, number), "path": path})
                await worker.say(b'{"size": %d}\n' % len(given) + given)
            ready = [trio.Event() for _ in workers]
            async with trio.open_nursery() as readers:
                for worker, event in zip(workers, ready, strict=True):
                    readers.start_soon(_read, worker, event, state, workers)
                for event in ready:
                    await event.wait()
                begin = time.perf_counter() + 0.05
                state.started = trio.current_time() + 0.05
                for worker in workers:
                    await worker.say(b"go %r\n" % begin)
                for each in watch:
                    nursery.start_soon(each, state)
                nursery.start_soon(_stop, state, workers)
            nursery.cancel_scope.cancel()
    finally:
        for worker in workers:
            worker.process.kill()
        _join(paths, directory / "requests.jsonl", mode)
    missing = [k for k, worker in enumerate(workers) if worker.part is None]
    if missing:
        raise RuntimeError(f"load processes {missing} ended without a result; what they said is above")
    return [worker.part for worker in workers if worker.part is not None], state.stopped


async def _process(task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        [sys.executable, "-m", "runmgr.load.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        check=False,
        task_status=task_status,
    )


async def _read(worker: _Worker, ready: trio.Event, state: LoadState, workers: list[_Worker]) -> None:
    stdout = worker.process.stdout
    assert stdout is not None
    rest = b""
    while data := await stdout.receive_some(1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "part" in told:
                worker.part = part_of(told["part"])
                worker.stopped = told["stopped"]
            elif "ready" in told:
                ready.set()
            else:
                worker.told = told
                for name in _COUNTS:
                    setattr(state, name, sum(one.told.get(name, 0) for one in workers))
                if all(one.told.get("phase") == "draining" for one in workers):
                    state.phase = "draining"
    ready.set()  # one that died holds nobody up


async def _stop(state: LoadState, workers: list[_Worker]) -> None:
    await state.stopping.wait()
    for worker in workers:
        await worker.say(b"stop\n")


def _join(paths: list[Path], whole: Path, mode: str) -> None:
    """The processes' lines in one file. Blocks."""
    with whole.open(mode) as out:
        for path in paths:
            if not path.exists():
                continue
            with path.open("rb") as lines:
                while data := lines.read(1 << 20):
                    out.write(data)
            path.unlink()
