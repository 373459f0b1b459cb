"""One of several processes that share a load: ``python -m runmgr.load.worker``, started by `runmgr.load.processes`.

Standard input: a line of JSON that says how long the pickled configuration after it is; then ``go MOMENT`` (``time.perf_counter``, which all
processes of a machine share), then perhaps ``stop``. Its end stops the worker too, so that none outlives its parent. Standard output: a
line of JSON when ready, now and then while it runs, and one with all that was measured.
"""

from __future__ import annotations

import json
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import Any

import trio

from runmgr.load.parts import state_of
from runmgr.load.plan import make_plan
from runmgr.load.run import measure
from runmgr.load.state import LoadState
from runmgr.load.write import RequestsFile

_TELL_SECONDS = 0.2


def say(value: dict[str, Any]) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def work(given: dict[str, Any]) -> None:
    """Everything between the configuration and the end."""
    config = given["config"]
    plan = make_plan(config, share=given["share"])
    say({"ready": True})
    line = await trio.to_thread.run_sync(sys.stdin.buffer.readline)
    word, _, moment = line.decode().partition(" ")
    if word != "go":
        return
    started = trio.current_time() + float(moment) - time.perf_counter()

    async def tell(state: LoadState) -> None:
        while True:
            await trio.sleep(_TELL_SECONDS)
            names = ("sent", "succeeded", "failed", "cancelled", "chunks", "in_flight", "phase")
            say({name: getattr(state, name) for name in names})

    async def listen(state: LoadState) -> None:
        await trio.to_thread.run_sync(sys.stdin.buffer.readline, abandon_on_cancel=True)
        state.stop()

    path: Path = given["path"]
    with RequestsFile(path, chunks=config.record_chunks) as lines:
        part, stopped = await measure(config, plan, lines.add, watch=[tell, listen], started=started)
    say({"part": state_of(part), "stopped": stopped})


def main() -> None:
    """Read the configuration, and work."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal's Ctrl-C reaches all; the parent says what to do
    size = json.loads(sys.stdin.buffer.readline())["size"]
    trio.run(work, pickle.loads(sys.stdin.buffer.read(size)))  # noqa: S301  our own parent's
    sys.stdout.flush()
    # A thread may still wait for a line that never comes.
    import os

    os._exit(0)


if __name__ == "__main__":
    main()
